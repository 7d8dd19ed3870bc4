"""Where does slow work run that is not the engine's own: files, models, callers' code? In threads beside its own."""

import concurrent.futures
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def beside(call: Callable[[], T], *, name: str) -> "concurrent.futures.Future[T]":
    """Run `call` now in a thread of its own, which does not keep the program from ending."""
    return _start(call, name=name)[0]


class Aside:
    """Work that is to end before the engine does: a thread that loads a model must not outlive the program."""

    def __init__(self) -> None:
        self._threads: set[threading.Thread] = set()

    def run(self, call: Callable[[], T], *, name: str) -> "concurrent.futures.Future[T]":
        """Run `call` now in a thread of its own."""
        future, thread = _start(call, name=name)
        self._threads.add(thread)
        future.add_done_callback(lambda _: self._threads.discard(thread))
        return future

    def close(self) -> None:
        """Wait for what is running."""
        for thread in list(self._threads):
            thread.join()


def _start(call: Callable[[], T], *, name: str) -> "tuple[concurrent.futures.Future[T], threading.Thread]":
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001  (the future carries whatever was raised, a caller's exit too)
            future.set_exception(error)
        else:
            future.set_result(value)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return future, thread
