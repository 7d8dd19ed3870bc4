"""Which fake stands in for which port? One class per port; they are what a manifest calls `noop`.

Every fake subclasses its port, keeps the port's contract (the suites of `crucible.testing.contracts` run
over it), is deterministic, and says through `capabilities()` that its numbers follow no model.
"""

from crucible.testing.fakes.backend import FakeBackend as FakeBackend
from crucible.testing.fakes.blob_store import FakeBlobStore as FakeBlobStore
from crucible.testing.fakes.dataset_store import FakeDatasetStore as FakeDatasetStore
from crucible.testing.fakes.embedding_client import FakeEmbeddingClient as FakeEmbeddingClient
from crucible.testing.fakes.hub_client import FakeHubClient as FakeHubClient
from crucible.testing.fakes.llm_client import FakeLLMClient as FakeLLMClient
from crucible.testing.fakes.metrics_store import FakeMetricsStore as FakeMetricsStore
from crucible.testing.fakes.sampling_client import FakeSamplingClient as FakeSamplingClient
from crucible.testing.fakes.tokenizer import FakeTokenizer as FakeTokenizer
from crucible.testing.fakes.tokenizer import FakeTokenizerStore as FakeTokenizerStore
from crucible.testing.fakes.training_client import FakeTrainingClient as FakeTrainingClient
from crucible.testing.fakes.vector_store import FakeVectorStore as FakeVectorStore

__all__ = [
    "FakeBackend",
    "FakeBlobStore",
    "FakeDatasetStore",
    "FakeEmbeddingClient",
    "FakeHubClient",
    "FakeLLMClient",
    "FakeMetricsStore",
    "FakeSamplingClient",
    "FakeTokenizer",
    "FakeTokenizerStore",
    "FakeTrainingClient",
    "FakeVectorStore",
]
