"""How do a training and a sampling fake come to share weights? As one backend."""

from pathlib import Path

from crucible.testing.fakes.sampling_client import FakeSamplingClient
from crucible.testing.fakes.training_client import FakeTrainingClient
from crucible.testing.fakes.weights import WeightsShelf


class FakeBackend:
    """Training and sampling over one shelf of saved weights.

    checkpoint_dir: where they are saved; None keeps them in memory.
    latency: seconds that every call takes.
    """

    def __init__(self, *, checkpoint_dir: Path | None = None, latency: float = 0.0) -> None:
        shelf = WeightsShelf(checkpoint_dir)
        self.training_client = FakeTrainingClient(latency=latency, shelf=shelf)
        self.sampling_client = FakeSamplingClient(latency=latency, shelf=shelf)

    def close(self) -> None:
        """Finish what was submitted and end both worker threads. Safe to call twice."""
        self.training_client.close()
        self.sampling_client.close()
