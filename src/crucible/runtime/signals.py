"""What do Ctrl-C and SIGTERM mean while a run goes on? First: stop where it can be continued. Again: stop at once."""

import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from crucible.framework import Stop

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Heard:
    """The latest signal that arrived; SIGINT where none did."""

    signum: int = signal.SIGINT


@contextmanager
def stopped_by_signals(stop: Stop) -> Generator[Heard]:
    """For the time of the block, the first signal requests `stop`; the second does what it did before.

    Only a process's main thread can hear signals; in another, this changes nothing.
    """
    heard = Heard()
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    before = {signum: signal.getsignal(signum) for signum in _SIGNALS}

    def listen(signum: int, _frame: FrameType | None) -> None:
        heard.signum = signum
        for each, handler in before.items():
            signal.signal(each, handler)
        stop.request()
        # Whoever read our output may be gone (`| tee`), or be in the middle of it: the stop is what matters.
        with suppress(OSError, RuntimeError, ValueError):
            print("stopping after this step; once more stops at once", file=sys.stderr, flush=True)

    for signum in _SIGNALS:
        signal.signal(signum, listen)
    try:
        yield heard
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
