"""How does the embedded engine serve the training and sampling ports? One backend, one engine behind both."""

from crucible.adapters.torch.backend import TorchBackend as TorchBackend
from crucible.adapters.torch.sampling import TorchSamplingClient as TorchSamplingClient
from crucible.adapters.torch.training import TorchTrainingClient as TorchTrainingClient

__all__ = ["TorchBackend", "TorchSamplingClient", "TorchTrainingClient"]
