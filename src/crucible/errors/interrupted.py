"""How does a run say that a signal stopped it?"""

import signal


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal, at a point that it can be continued from. signum: the signal's number."""

    def __init__(self, message: str, *, signum: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.signum = signum
