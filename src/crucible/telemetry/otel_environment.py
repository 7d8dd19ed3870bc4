"""Where does OpenTelemetry go when nobody but the environment says so? `open_otel`."""

import os
import threading
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from crucible.errors import ConfigError, MissingExtraError, did_you_mean
from crucible.telemetry.opentelemetry import OpenTelemetry

try:
    from opentelemetry import trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
except ModuleNotFoundError as error:
    raise MissingExtraError.for_extra(
        "otel", needed_by="the telemetry handler otel", module="opentelemetry-sdk"
    ) from error

_OTLP = ("otlp_proto_http", "otlp_proto_grpc")
_FLUSH_S = 10.0
"""How long closing may wait for a collector that does not answer."""


def open_otel() -> OpenTelemetry:
    """A handler for the process's own providers (set in Python, or by `opentelemetry-instrument`), if it has any.

    Else for the exporters that OTEL_TRACES_EXPORTER and OTEL_METRICS_EXPORTER name, in the SDK's words: entry
    points of installed exporters, separated by commas; `console`; `none`; or `otlp`, the default. Exporters read
    their own variables (OTEL_EXPORTER_OTLP_ENDPOINT, ...), and the resource reads OTEL_SERVICE_NAME.

    Raises:
        ConfigError: if an exporter is not installed.
    """
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return OpenTelemetry()
    return _WithProviders(*_providers())


class _WithProviders(OpenTelemetry):
    """A handler that closes its providers too, which sends what they hold."""

    def __init__(self, tracing: TracerProvider, metering: MeterProvider) -> None:
        super().__init__(tracer_provider=tracing, meter_provider=metering)
        self._shutdowns = [tracing.shutdown, metering.shutdown]

    def close(self) -> None:
        super().close()
        shutdowns, self._shutdowns = self._shutdowns, []
        threads = [threading.Thread(target=shutdown, daemon=True) for shutdown in shutdowns]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_FLUSH_S)


def _providers() -> tuple[TracerProvider, MeterProvider]:
    spans = [BatchSpanProcessor(make()) for make in _exporters("OTEL_TRACES_EXPORTER", "opentelemetry_traces_exporter")]
    readers = [_reader(make()) for make in _exporters("OTEL_METRICS_EXPORTER", "opentelemetry_metrics_exporter")]
    tracing = TracerProvider(shutdown_on_exit=False)
    for processor in spans:
        tracing.add_span_processor(processor)
    return tracing, MeterProvider(metric_readers=readers, shutdown_on_exit=False)


def _exporters(variable: str, group: str) -> list[Callable[[], Any]]:
    installed = {entry.name: entry for entry in entry_points(group=group)}
    otlp = next((name for name in _OTLP if name in installed), "otlp")
    names = [word.strip() for word in os.environ.get(variable, "otlp").split(",")]
    wanted = [otlp if name == "otlp" else name for name in names if name not in ("none", "")]
    for name in wanted:
        if name not in installed:
            known = did_you_mean(name, (*installed, "none"))
            raise ConfigError.of(
                "no OpenTelemetry exporter of this name is installed",
                where=variable,
                given=name,
                fix=f"Install it (pip install opentelemetry-exporter-otlp-proto-http), or set {variable}; {known}",
            )
    return [installed[name].load() for name in wanted]


def _reader(exporter: Any) -> MetricReader:
    return exporter if isinstance(exporter, MetricReader) else PeriodicExportingMetricReader(exporter)
