"""Who hears about an event?"""

import difflib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TypeAlias

from crucible.errors import ConfigError, did_you_mean
from crucible.telemetry.event import EVENTS, Event

Handler: TypeAlias = Callable[[Event], object]
"""Called in the thread that emits, while it waits: a handler is quick or hands its work on."""

_NOTHING: Mapping[str, object] = {}
_LOG = logging.getLogger("crucible")


class Bus:
    """Hands each event to the handlers whose filters match it, in the order they were attached.

    A handler that raises is detached and reported once to the logger `crucible`; the run goes on.
    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._attached: dict[str, tuple[tuple[str, ...], Handler]] = {}
        self._by_event: dict[str, tuple[tuple[str, Handler], ...]] = {}

    def attach(self, handler_id: str, events: str | Iterable[str], handler: Handler) -> None:
        """Hand `handler` every event that a filter matches: an event's name, a prefix of one that ends at a
        dot (`training`), or `*`.

        Raises:
            ConfigError: if the id is taken, or a filter is a misspelt event.
        """
        filters = (events,) if isinstance(events, str) else tuple(events)
        for pattern in filters:
            _refuse_misspelt(pattern)
        with self._lock:
            if handler_id in self._attached:
                raise ConfigError.of(
                    "a telemetry handler with this id is attached already", given=handler_id, fix="Detach it first"
                )
            self._attached[handler_id] = (filters, handler)
            self._by_event = {}

    def attach_many(self, handler_id: str, events: Iterable[str], handler: Handler) -> None:
        """`attach` with several filters, under the name that users of Erlang's telemetry know."""
        self.attach(handler_id, events, handler)

    def detach(self, handler_id: str) -> bool:
        """Stop a handler; False if none has this id."""
        with self._lock:
            self._by_event = {}
            return self._attached.pop(handler_id, None) is not None

    def attached(self) -> tuple[str, ...]:
        """The ids of the handlers, in order."""
        return tuple(self._attached)

    def emit(
        self,
        name: str,
        measurements: Mapping[str, float] | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Tell every handler that asked for `name`. Costs well under a microsecond when nobody did."""
        handlers = self._by_event.get(name)
        if handlers is None:
            handlers = self._listeners(name)
        if not handlers:
            return
        event = Event(name, measurements or {}, metadata or _NOTHING, time.time_ns())
        for handler_id, handler in handlers:
            try:
                handler(event)
            except OSError as error:
                if self.detach(handler_id):
                    _LOG.warning("telemetry handler %r was detached: %s", handler_id, error)
            except Exception:  # noqa: BLE001  (a display must never cost a run, whatever it raised)
                if self.detach(handler_id):
                    _LOG.exception("telemetry handler %r failed on %s and was detached", handler_id, name)

    def _listeners(self, name: str) -> tuple[tuple[str, Handler], ...]:
        with self._lock:
            found = tuple(
                (handler_id, handler)
                for handler_id, (filters, handler) in self._attached.items()
                if any(_matches(pattern, name) for pattern in filters)
            )
            self._by_event[name] = found
            return found


def _matches(pattern: str, name: str) -> bool:
    return pattern in ("*", name) or name.startswith(pattern.rstrip(".") + ".")


def _refuse_misspelt(pattern: str) -> None:
    known = {*EVENTS, *(event.partition(".")[0] for event in EVENTS)}
    unknown = pattern.rstrip(".") not in known and pattern != "*"
    if unknown and (not pattern or difflib.get_close_matches(pattern, known, n=1, cutoff=0.75)):
        raise ConfigError.of("no telemetry event matches this filter", given=pattern, fix=did_you_mean(pattern, known))


@cache
def default_bus() -> Bus:
    """The bus of this process, which a run uses unless it is given another."""
    return Bus()


def attach(handler_id: str, events: str | Iterable[str], handler: Handler) -> None:
    """`Bus.attach` on the default bus."""
    default_bus().attach(handler_id, events, handler)


def attach_many(handler_id: str, events: Iterable[str], handler: Handler) -> None:
    """`Bus.attach_many` on the default bus."""
    default_bus().attach_many(handler_id, events, handler)


def detach(handler_id: str) -> bool:
    """`Bus.detach` on the default bus."""
    return default_bus().detach(handler_id)


def emit(
    name: str, measurements: Mapping[str, float] | None = None, metadata: Mapping[str, object] | None = None
) -> None:
    """`Bus.emit` on the default bus."""
    default_bus().emit(name, measurements, metadata)
