"""Which handlers can be switched on by name? `prometheus:9400`, `otel`, `trace`, `durations`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Protocol

from crucible.errors import ConfigError, did_you_mean
from crucible.telemetry.event import Event


class ClosableHandler(Protocol):
    """A handler that says what it wants to hear, and holds something until it is closed."""

    events: ClassVar[tuple[str, ...]]
    """The filters to attach it with."""

    def __call__(self, event: Event) -> object:
        """Hear an event."""
        ...

    def close(self) -> None:
        """Release what is held. Safe to call twice."""
        ...


def open_handler(spec: str, run_dir: Path) -> ClosableHandler:
    """The handler that a word of the command line names; attach it with its own `events`.

    spec: `prometheus`, `prometheus:PORT`, `prometheus:ADDRESS:PORT`: a scrape endpoint, on port 9400 of this machine
    unless said otherwise, 0 for any free port; `otel`: spans and metrics to the process's OpenTelemetry providers,
    or to those that OTEL_TRACES_EXPORTER and OTEL_METRICS_EXPORTER name; `trace`: `trace.json` in the run's folder;
    `durations`: a table of the stages' percentiles on standard error at the end.

    Raises:
        ConfigError: if the name is unknown, or its argument is wrong.
        MissingExtraError: if the handler's library is not installed.
    """
    name, _, argument = spec.partition(":")
    if name not in _OPENERS:
        raise ConfigError.of("there is no such telemetry handler", given=spec, fix=did_you_mean(name, _OPENERS))
    if argument and name != "prometheus":
        raise ConfigError.of(f"the telemetry handler {name} takes no argument", given=spec, fix=f"Write {name}")
    return _OPENERS[name](argument, run_dir)


def _prometheus(argument: str, __: Path) -> ClosableHandler:
    from crucible.telemetry.prometheus import DEFAULT_PORT, Prometheus

    address, _, port = argument.rpartition(":")
    if port and not (port.isascii() and port.isdecimal()):
        raise ConfigError.of("the port is not a number", given=f"prometheus:{argument}", fix="Write prometheus:9400")
    return Prometheus(port=int(port) if port else DEFAULT_PORT, address=address or "127.0.0.1")


def _otel(_: str, __: Path) -> ClosableHandler:
    from crucible.telemetry.otel_environment import open_otel

    return open_otel()


def _trace(_: str, run_dir: Path) -> ClosableHandler:
    from crucible.telemetry.chrome_trace import ChromeTrace

    return ChromeTrace(run_dir / "trace.json")


def _durations(_: str, __: Path) -> ClosableHandler:
    from crucible.telemetry.percentiles import Durations
    from crucible.telemetry.terminal import Terminal

    return Durations(Terminal(stderr=True))


_OPENERS: Mapping[str, Callable[[str, Path], ClosableHandler]] = {
    "prometheus": _prometheus,
    "otel": _otel,
    "trace": _trace,
    "durations": _durations,
}
