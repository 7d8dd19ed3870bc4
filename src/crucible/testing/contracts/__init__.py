"""Does my adapter keep its port's contract? One pytest suite per port answers.

Subclass the suite in a test module and give it the adapter; pytest collects the suite's tests with yours:

    from crucible.testing.contracts import TrainingClientContract

    class TestMyTrainingClient(TrainingClientContract):
        @pytest.fixture
        def client(self, tmp_path):
            client = MyTrainingClient(checkpoint_dir=tmp_path)
            yield client
            client.close()

        @pytest.fixture
        def model(self):
            return "path/to/a/tiny/model"

Each suite's docstring names the fixtures it asks for. Every test gets an adapter of its own: fixtures have
function scope, what is dear to load the adapter caches. A suite never asks for an adapter's name. Where
`capabilities()` says that something is lacking, or a fixture that widens the suite was not given, the test
passes and records what it did not exercise; `crucible.testing.contracts.report` counts these at the end of
the run when loaded as a pytest plugin (`-p crucible.testing.contracts.report`, or by importing its hook in
a conftest).
"""

import pytest

_SUITES = (
    "blob_store",
    "dataset_store",
    "embedding_client",
    "futures",
    "hub_client",
    "llm_client",
    "metrics_store",
    "sampling_client",
    "sampling_report",
    "sequences",
    "tokenizer",
    "training_checkpoints",
    "training_client",
    "training_losses",
    "training_sampling",
    "training_scores",
    "training_updates",
    "vector_store",
)
pytest.register_assert_rewrite(*(f"{__name__}.{suite}" for suite in _SUITES))  # failures show their values

# E402 below: pytest rewrites a module's asserts only if it is registered before it is imported.

from crucible.testing.contracts.blob_store import BlobStoreContract as BlobStoreContract  # noqa: E402  (asserts are rewritten first)
from crucible.testing.contracts.dataset_store import DatasetStoreContract as DatasetStoreContract  # noqa: E402  (asserts are rewritten first)
from crucible.testing.contracts.embedding_client import EmbeddingClientContract as EmbeddingClientContract  # noqa: E402  (asserts are rewritten first)
from crucible.testing.contracts.hub_client import HubClientContract as HubClientContract  # noqa: E402  (asserts are rewritten first)
from crucible.testing.contracts.llm_client import LLMClientContract as LLMClientContract  # noqa: E402  (asserts are rewritten first)
from crucible.testing.contracts.metrics_store import MetricsStoreContract as MetricsStoreContract  # noqa: E402  (asserts are rewritten first)
from crucible.testing.contracts.sampling_client import SamplingClientContract as SamplingClientContract  # noqa: E402  (asserts are rewritten first)
from crucible.testing.contracts.tokenizer import TokenizerContract as TokenizerContract  # noqa: E402  (asserts are rewritten first)
from crucible.testing.contracts.tokenizer import TokenizerStoreContract as TokenizerStoreContract  # noqa: E402  (asserts are rewritten first)
from crucible.testing.contracts.training_client import TrainingClientContract as TrainingClientContract  # noqa: E402  (asserts are rewritten first)
from crucible.testing.contracts.vector_store import VectorStoreContract as VectorStoreContract  # noqa: E402  (asserts are rewritten first)

__all__ = [
    "BlobStoreContract",
    "DatasetStoreContract",
    "EmbeddingClientContract",
    "HubClientContract",
    "LLMClientContract",
    "MetricsStoreContract",
    "SamplingClientContract",
    "TokenizerContract",
    "TokenizerStoreContract",
    "TrainingClientContract",
    "VectorStoreContract",
]
