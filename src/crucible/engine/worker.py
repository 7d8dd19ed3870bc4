"""In which thread, and in which order, does the engine's work run?

One thread runs every call, in units: between two of them another call's may come. A call is a function, which is one
unit, or returns a generator (`Steps`): each `yield` ends a unit. What a generator yields is None, or a future that it
needs: then it goes on when that is done, and others run meanwhile.
"""

import concurrent.futures
import threading
import time
from collections.abc import Callable, Generator, Hashable, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeAlias, TypeVar, cast

from crucible.engine.scheduler import Lanes, Turns
from crucible.ports.future import Future

T = TypeVar("T")

Steps: TypeAlias = Generator[concurrent.futures.Future[Any] | None, None, T]
"""A call in units; see the module."""

Outcome: TypeAlias = T | concurrent.futures.Future[T] | Steps[T] | Steps[concurrent.futures.Future[T]]
"""What a call may return: its value now, or by a future, or either of them in steps."""


class CallersError(Exception):
    """Wraps what a caller's own function raised inside a call: its reader gets the original, untranslated."""

    def __init__(self, original: BaseException) -> None:
        super().__init__(str(original))
        self.original = original


def awaited(future: "concurrent.futures.Future[T]") -> Steps[T]:
    """Wait for a future while others run; its value or its exception is the outcome."""
    if not future.done():
        yield future
    return future.result()


class _Call(Generic[T]):
    """One call on its way: `source` is the future that its submitter holds."""

    def __init__(
        self,
        run: Callable[[], Any],
        *,
        tenant: Hashable,
        lanes: Sequence[Hashable],
        claims: Sequence[Hashable],
        share: Callable[[], float],
    ) -> None:
        self.run, self.tenant, self.share = run, tenant, share
        self.lanes, self.claims = [("lane", lane) for lane in lanes], [("claim", claim) for claim in claims]
        self.source: concurrent.futures.Future[T] = concurrent.futures.Future()
        self.source.set_running_or_notify_cancel()  # what was submitted runs: nobody's `cancel` takes it back
        self.steps: Steps[Any] | None = None


class Worker:
    """One thread, started by its first call. A call that fails fails its own future only. One that returns a
    `concurrent.futures.Future` is done when that is, while others run.

    guard: a context manager that every unit runs in; it may translate exceptions.
    at_end: run in the thread when it ends.
    clock: seconds, of which a tenant's turns are counted.
    """

    def __init__(
        self,
        name: str,
        *,
        guard: Callable[[], AbstractContextManager[None]],
        at_end: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._guard, self._at_end, self._clock = guard, at_end, clock
        self._changed = threading.Condition()
        self._closed = False
        self._lanes: Lanes[_Call[Any]] = Lanes()
        self._turns: Turns[_Call[Any]] = Turns()
        self._calls: set[_Call[Any]] = set()  # not yet returned
        # A daemon, so that a program that forgets to close it can still end.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def closing(self) -> bool:
        """Whether `close` was called: a long unit may look and end early."""
        return self._closed

    @property
    def waiting(self) -> int:
        """Calls that were submitted and have not returned."""
        return len(self._calls)

    def submit(
        self,
        run: Callable[[], Outcome[T]],
        *,
        tenant: Hashable = "",
        lanes: Sequence[Hashable] = ("",),
        claims: Sequence[Hashable] = (),
        share: Callable[[], float] = lambda: 1.0,
    ) -> Future[T]:
        """Run `run` in its turn. After `close` the future fails with a CancelledError.

        tenant: on whose account its time goes. share: divides it, for one that works for several.
        lanes: it begins when every earlier call of the same lane has returned.
        claims: it begins when every earlier call of the same claim is done, its future too.
        """
        call = _Call[T](run, tenant=tenant, lanes=lanes, claims=claims, share=share)
        with self._changed:
            if not self._closed:
                if self._thread.ident is None:
                    self._thread.start()
                self._calls.add(call)
                if self._lanes.enter(call, [*call.lanes, *call.claims]):
                    self._add(call)
                return Future(call.source)
        self._cancel(call)
        return Future(call.source)

    def close(self) -> None:
        """End the thread after the unit it is on; calls that have not returned fail with a CancelledError. Safe to
        call twice."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            started = self._thread.ident is not None
        if started and threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while self._turn():
            pass
        while self._calls:
            self._cancel(self._calls.pop())
        self._at_end()

    def _turn(self) -> bool:
        """Run the unit that is next, once there is one; False when the worker is closed."""
        call = self._next()
        if call is None:
            return False
        began, share = self._clock(), max(1.0, call.share())
        again = self._unit(call)
        with self._changed:
            if again:
                self._turns.add(call.tenant, call)
            self._turns.charge((self._clock() - began) / share)
        return True

    def _next(self) -> _Call[Any] | None:
        with self._changed:
            while True:
                if self._closed:
                    return None
                if (call := self._turns.take()) is not None:
                    return call
                self._changed.wait()

    def _unit(self, call: _Call[Any]) -> bool:
        """Run one unit of `call`; whether it has another at once."""
        try:
            with self._guard():
                if call.steps is None:
                    value = call.run()
                    if not isinstance(value, Generator):
                        return self._returned(call, value)
                    call.steps = cast("Steps[Any]", value)
                try:
                    needed = next(call.steps)
                except StopIteration as stop:
                    return self._returned(call, stop.value)
        except BaseException as error:  # noqa: BLE001  (a future carries whatever was raised to its reader)
            self._leave(call, [*call.lanes, *call.claims])
            call.source.set_exception(_original(error))
            return False
        if needed is None:
            return True
        needed.add_done_callback(lambda _: self._wake(call))
        return False

    def _returned(self, call: _Call[Any], value: object) -> bool:
        call.steps = None
        self._leave(call, call.lanes)
        if isinstance(value, concurrent.futures.Future):
            inner = cast("concurrent.futures.Future[Any]", value)
            inner.add_done_callback(lambda _: self._finish(call, inner))
        else:
            self._leave(call, call.claims)
            call.source.set_result(value)
        return False

    def _finish(self, call: _Call[Any], inner: "concurrent.futures.Future[Any]") -> None:
        """When `inner` is done, the call is, in the same way."""
        self._leave(call, call.claims)
        try:
            with self._guard():
                value = inner.result()
        except BaseException as error:  # noqa: BLE001  (a future carries whatever was raised to its reader)
            call.source.set_exception(_original(error))
        else:
            call.source.set_result(value)

    def _leave(self, call: _Call[Any], lanes: Sequence[Hashable]) -> None:
        with self._changed:
            self._calls.discard(call)
            for freed in self._lanes.leave(call, lanes):
                self._add(freed)

    def _wake(self, call: _Call[Any]) -> None:
        with self._changed:
            self._add(call)

    def _add(self, call: _Call[Any]) -> None:
        self._turns.add(call.tenant, call)
        self._changed.notify()

    def _cancel(self, call: _Call[Any]) -> None:
        """Fail a call that will not go on, its `finally` blocks run."""
        try:
            with self._guard():
                if call.steps is not None:
                    call.steps.close()
                raise CancelledError("the engine was closed before this request was done")
        except Exception as error:  # noqa: BLE001  (a future carries whatever was raised to its reader)
            call.source.set_exception(_original(error))


def _original(error: BaseException) -> BaseException:
    return error.original if isinstance(error, CallersError) else error
