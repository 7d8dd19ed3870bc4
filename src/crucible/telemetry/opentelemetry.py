"""How does a run appear in OpenTelemetry? A span per workflow, child spans for its stages, and metrics."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from crucible.errors import MissingExtraError
from crucible.telemetry.event import Event

try:
    from opentelemetry import metrics, trace
except ModuleNotFoundError as error:
    raise MissingExtraError.for_extra(
        "otel", needed_by="the telemetry handler otel", module="opentelemetry-sdk"
    ) from error

_GAUGES = {"loss": "crucible.training.loss", "learning_rate": "crucible.training.learning_rate"}
_COUNTERS = {"tokens": "crucible.training.tokens", "trained_tokens": "crucible.training.trained_tokens"}


@dataclass(frozen=True, slots=True)
class _Open:
    """A span that has not ended. started: nanoseconds since 1970, wall clock."""

    span: trace.Span
    started: int


@dataclass(slots=True)
class _Tree:
    """The open spans of a run: its workflow's, and its stages' by path."""

    workflow: _Open | None = None
    stages: dict[str, _Open] = field(default_factory=dict[str, _Open])


class OpenTelemetry:
    """A handler that speaks OpenTelemetry.

    A failed stage's span has the status ERROR and an `exception` event. Stages may overlap: they are told apart by
    run and path. A span's length is the measured duration, so a wall clock that jumps does not bend it.

    tracer_provider, meter_provider: the process's own if None.
    """

    events: ClassVar[tuple[str, ...]] = ("workflow", "stage", "training.step", "training.checkpoint", "eval.result")

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer("crucible", tracer_provider=tracer_provider)
        meter = metrics.get_meter("crucible", meter_provider=meter_provider)
        self._lock = threading.Lock()
        self._runs: dict[str, _Tree] = {}
        self._steps = meter.create_counter("crucible.training.steps", description="Optimizer steps that finished")
        self._step_seconds = meter.create_histogram("crucible.training.step.duration", unit="s")
        self._stage_seconds = meter.create_histogram("crucible.stage.duration", unit="s")
        self._gauges = {key: meter.create_gauge(name) for key, name in _GAUGES.items()}
        self._counters = {key: meter.create_counter(name, unit="{token}") for key, name in _COUNTERS.items()}

    def __call__(self, event: Event) -> None:
        with self._lock:
            run_id = str(event.metadata.get("run_id", ""))
            tree = self._runs.setdefault(run_id, _Tree())
            match event.name:
                case "workflow.start":
                    tree.workflow = self._begin(f"workflow {event.metadata.get('workflow', '')}", event, tree)
                case "stage.start":
                    self._end(tree.stages.pop(_path(event), None), event)
                    tree.stages[_path(event)] = self._begin(f"stage {event.metadata.get('stage', '')}", event, tree)
                case "stage.stop" | "stage.exception":
                    self._end(tree.stages.pop(_path(event), None), event)
                    self._measure_stage(event)
                case "workflow.stop" | "workflow.exception":
                    self._end_run(run_id, event)
                case "training.step":
                    self._measure_step(event)
                case _:
                    self._note(tree, event)

    def close(self) -> None:
        """End the spans that are still open; safe to call twice. The providers stay open: they are the caller's."""
        with self._lock:
            for tree in self._runs.values():
                for left in (*tree.stages.values(), tree.workflow):
                    if left is not None:
                        left.span.end()
            self._runs = {}

    def _begin(self, name: str, event: Event, tree: _Tree) -> _Open:
        parent = trace.set_span_in_context(tree.workflow.span) if tree.workflow is not None else None
        span = self._tracer.start_span(
            name, context=parent, attributes=_attributes(event.metadata), start_time=event.time_ns
        )
        return _Open(span, event.time_ns)

    def _end(self, found: _Open | None, event: Event) -> None:
        if found is None:  # the handler was attached after the start
            return
        duration = int(event.measurements.get("duration_ns", 0))
        ended = found.started + duration if duration else max(found.started, event.time_ns)
        if event.name.endswith(".exception"):
            told = str(event.metadata.get("message", ""))
            about = {"exception.type": str(event.metadata.get("error", "")), "exception.message": told}
            found.span.add_event("exception", about, timestamp=ended)
            found.span.set_status(trace.Status(trace.StatusCode.ERROR, told))
        elif event.name.endswith(".stop"):
            found.span.set_status(trace.Status(trace.StatusCode.OK))
        found.span.end(end_time=ended)

    def _end_run(self, run_id: str, event: Event) -> None:
        tree = self._runs.pop(run_id)
        for left in tree.stages.values():
            left.span.end(end_time=max(left.started, event.time_ns))
        self._end(tree.workflow, event)

    def _measure_stage(self, event: Event) -> None:
        if event.measurements.get("duration_ns"):  # a skipped stage tells none
            stage = {"crucible.stage": str(event.metadata.get("stage", ""))}
            self._stage_seconds.record(event.measurements["duration_ns"] / 1e9, stage)

    def _measure_step(self, event: Event) -> None:
        measured, run = event.measurements, {"crucible.run_id": str(event.metadata.get("run_id", ""))}
        self._steps.add(1, run)
        for key, gauge in self._gauges.items():
            if key in measured:
                gauge.set(measured[key], run)
        for key, counter in self._counters.items():
            if key in measured:
                counter.add(measured[key], run)
        if "seconds" in measured:
            self._step_seconds.record(measured["seconds"], run)

    def _note(self, tree: _Tree, event: Event) -> None:
        """Retries, resumes, checkpoints and evaluations are events of the span that they happen in."""
        found = tree.stages.get(_path(event)) or tree.workflow
        if found is not None:
            told = _attributes({**event.metadata, **event.measurements})
            found.span.add_event(event.name, told, timestamp=max(found.started, event.time_ns))


def _path(event: Event) -> str:
    return str(event.metadata.get("path", ""))


def _attributes(told: Mapping[str, object]) -> dict[str, str | int | float | bool]:
    return {
        f"crucible.{name}": value if isinstance(value, str | int | float | bool) else repr(value)
        for name, value in told.items()
    }
