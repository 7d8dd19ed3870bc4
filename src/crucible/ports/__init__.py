"""Which outside services can a run use? One file per port; adapters subclass them explicitly."""

from crucible.ports.blob_store import BlobStore as BlobStore
from crucible.ports.dataset_store import DatasetStore as DatasetStore
from crucible.ports.hub_client import HubClient as HubClient
from crucible.ports.metrics_store import MetricsStore as MetricsStore
from crucible.ports.port import Port as Port
from crucible.ports.sampling_client import SamplingClient as SamplingClient
from crucible.ports.tokenizer import Tokenizer as Tokenizer
from crucible.ports.tokenizer import TokenizerStore as TokenizerStore
from crucible.ports.training_client import TrainingClient as TrainingClient

__all__ = [
    "BlobStore",
    "DatasetStore",
    "HubClient",
    "MetricsStore",
    "Port",
    "SamplingClient",
    "Tokenizer",
    "TokenizerStore",
    "TrainingClient",
]
