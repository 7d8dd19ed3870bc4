"""What must an outside tracker be able to do? Take a batch of rows."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from crucible.ports.metrics_store import MetricsRow


class Tracker(ABC):
    """One run's place at a service that shows metrics. `crucible.adapters.metrics.Mirrored` calls it.

    Making one is quick and touches no network: what is slow happens in `send`.
    """

    @abstractmethod
    def send(self, first: int, rows: Sequence[MetricsRow]) -> None:
        """Deliver rows; it may block, and raise anything.

        first: the number of rows of the run before these, so that a row's index never changes.

        Called from one thread. After it raised, the same rows come again, perhaps with more behind them; after a
        kill, rows that were delivered may come again, with the same indexes.
        """

    def close(self, *, patience: float) -> None:  # noqa: B027  (many hold nothing to release)
        """Finish, within `patience` seconds, and release what is held.

        Called once, from another thread than `send`'s; with a patience of 0 perhaps while `send` blocks there.

        Raises:
            Exception: if what was delivered did not all arrive; the text says what to do about it.
        """
