"""Which outside services can a run use? One file per port; adapters subclass them explicitly."""

from crucible.ports.blob_store import BlobStore as BlobStore
from crucible.ports.dataset_store import DatasetStore as DatasetStore
from crucible.ports.embedding_client import EmbeddingClient as EmbeddingClient
from crucible.ports.hub_client import HubClient as HubClient
from crucible.ports.llm_client import LLMClient as LLMClient
from crucible.ports.metrics_store import MetricsStore as MetricsStore
from crucible.ports.port import Port as Port
from crucible.ports.sampling_client import SamplingClient as SamplingClient
from crucible.ports.tokenizer import Tokenizer as Tokenizer
from crucible.ports.tokenizer import TokenizerStore as TokenizerStore
from crucible.ports.training_client import TrainingClient as TrainingClient
from crucible.ports.vector_store import VectorStore as VectorStore

__all__ = [
    "BlobStore",
    "DatasetStore",
    "EmbeddingClient",
    "HubClient",
    "LLMClient",
    "MetricsStore",
    "Port",
    "SamplingClient",
    "Tokenizer",
    "TokenizerStore",
    "TrainingClient",
    "VectorStore",
]
