"""How does anyone hear what a run is doing? Events, and handlers attached to them by name or prefix.

The handlers are `console.Console` and `jsonl.Jsonl`, and those that `handlers.open_handler` opens by name:
Prometheus, OpenTelemetry, a timeline for Perfetto, and percentiles of durations.
"""

from crucible.telemetry.bus import Bus as Bus
from crucible.telemetry.bus import Handler as Handler
from crucible.telemetry.bus import attach as attach
from crucible.telemetry.bus import attach_many as attach_many
from crucible.telemetry.bus import default_bus as default_bus
from crucible.telemetry.bus import detach as detach
from crucible.telemetry.bus import emit as emit
from crucible.telemetry.defaults import attach_default_handlers as attach_default_handlers
from crucible.telemetry.event import EVENTS as EVENTS
from crucible.telemetry.event import Event as Event
from crucible.telemetry.jsonl import Jsonl as Jsonl

__all__ = [
    "EVENTS",
    "Bus",
    "Event",
    "Handler",
    "Jsonl",
    "attach",
    "attach_default_handlers",
    "attach_many",
    "default_bus",
    "detach",
    "emit",
]
