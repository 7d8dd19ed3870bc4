"""How does a Tinker service, the hosted one or any server of its API, serve the training and sampling ports?

Through the official SDK, which only this package imports.
"""

from crucible.adapters.tinker.backend import TinkerBackend as TinkerBackend
from crucible.adapters.tinker.sampling import TinkerSamplingClient as TinkerSamplingClient
from crucible.adapters.tinker.training import TinkerTrainingClient as TinkerTrainingClient

__all__ = ["TinkerBackend", "TinkerSamplingClient", "TinkerTrainingClient"]
