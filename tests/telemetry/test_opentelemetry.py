"""Is a run a trace, with a child span for each stage, also when stages overlap, fail or are retried?"""

import json
import subprocess
import sys

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from crucible.telemetry import Bus
from crucible.telemetry.opentelemetry import OpenTelemetry

RUN = {"run_id": "r", "recipe": "sl_basic", "workflow": "w"}


class Seen:
    """A bus with the handler, and what the SDK's in-memory exporters got."""

    def __init__(self) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracing = TracerProvider()
        self.tracing.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.metering = MeterProvider(metric_readers=[self.reader])
        self.handler = OpenTelemetry(tracer_provider=self.tracing, meter_provider=self.metering)
        self.bus = Bus()
        self.bus.attach("otel", self.handler.events, self.handler)

    def stage(self, turn: str, path: str, **told: object) -> None:
        measured = {"duration_ns": 5_000_000} if turn in ("stop", "exception") else {}
        self.bus.emit(f"stage.{turn}", measured, {"run_id": "r", "path": path, "stage": path[-1], **told})

    def span(self, name: str):
        (found,) = (span for span in self.exporter.get_finished_spans() if span.name == name)
        return found

    def points(self) -> dict[str, list]:
        gathered = self.reader.get_metrics_data()
        if gathered is None:
            return {}
        data = json.loads(gathered.to_json())
        found = data["resource_metrics"][0]["scope_metrics"][0]["metrics"]
        return {metric["name"]: metric["data"]["data_points"] for metric in found}


@pytest.fixture
def seen():
    seen = Seen()
    yield seen
    seen.tracing.shutdown()
    seen.metering.shutdown()


def test_a_workflow_is_a_span_and_its_stages_are_its_children(seen):
    seen.bus.emit("workflow.start", {}, RUN)
    seen.stage("start", "w > a")
    seen.stage("stop", "w > a")
    seen.bus.emit("workflow.stop", {"duration_ns": 9_000_000}, RUN)
    stage, workflow = seen.span("stage a"), seen.span("workflow w")
    assert stage.parent.span_id == workflow.context.span_id and workflow.parent is None
    assert stage.end_time - stage.start_time == 5_000_000 and workflow.end_time - workflow.start_time == 9_000_000
    assert stage.status.status_code is workflow.status.status_code is StatusCode.OK
    assert stage.attributes["crucible.path"] == "w > a" and workflow.attributes["crucible.recipe"] == "sl_basic"


def test_stages_that_overlap_are_told_apart_by_their_path(seen):
    seen.bus.emit("workflow.start", {}, RUN)
    for turn, path in (("start", "w > x > a"), ("start", "w > y > b"), ("stop", "w > x > a"), ("stop", "w > y > b")):
        seen.stage(turn, path)
    seen.bus.emit("workflow.stop", {"duration_ns": 1}, RUN)
    parents = {seen.span(name).parent.span_id for name in ("stage a", "stage b")}
    assert parents == {seen.span("workflow w").context.span_id}
    assert seen.span("stage b").attributes["crucible.path"] == "w > y > b"


def test_a_failure_is_an_error_with_its_type_and_message_on_stage_and_workflow(seen):
    about = {"error": "TimeoutError", "message": "too late"}
    seen.bus.emit("workflow.start", {}, RUN)
    seen.stage("start", "w > a")
    seen.stage("exception", "w > a", **about)
    seen.bus.emit("workflow.exception", {"duration_ns": 1}, {**RUN, **about})
    for name in ("stage a", "workflow w"):
        span = seen.span(name)
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "too late")
        (event,) = span.events
        assert dict(event.attributes) == {"exception.type": "TimeoutError", "exception.message": "too late"}


def test_a_skipped_stage_that_tells_no_duration_ends_when_it_was_told(seen):
    seen.stage("start", "w > a")
    seen.bus.emit("stage.exception", {"duration_ns": 0}, {"run_id": "r", "path": "w > a", "skipped": True})
    span = seen.span("stage a")
    assert span.end_time > span.start_time and "crucible.stage.duration" not in seen.points()


def test_retries_checkpoints_and_results_are_events_of_the_span_they_happen_in(seen):
    seen.bus.emit("workflow.start", {}, RUN)
    seen.bus.emit("workflow.resume", {"step": 20}, RUN)
    seen.stage("start", "w > a")
    seen.bus.emit("stage.retry", {"attempt": 2}, {"run_id": "r", "path": "w > a"})
    seen.stage("stop", "w > a")
    seen.bus.emit("training.checkpoint", {"step": 20}, {"run_id": "r", "path": "checkpoints/000020"})
    seen.bus.emit("workflow.stop", {"duration_ns": 1}, RUN)
    assert [event.name for event in seen.span("stage a").events] == ["stage.retry"]
    assert [event.name for event in seen.span("workflow w").events] == ["workflow.resume", "training.checkpoint"]


def test_what_is_still_open_ends_with_its_run_or_with_the_handler(seen):
    seen.bus.emit("workflow.start", {}, RUN)
    seen.stage("start", "w > a")
    seen.bus.emit("workflow.exception", {"duration_ns": 1}, RUN)
    seen.bus.emit("workflow.start", {}, {**RUN, "run_id": "other", "workflow": "v"})
    seen.handler.close()
    seen.handler.close()
    assert {span.name for span in seen.exporter.get_finished_spans()} == {"workflow w", "stage a", "workflow v"}


def test_a_handler_that_came_late_still_shows_stages(seen):
    seen.stage("stop", "w > a")
    seen.stage("start", "w > b")
    seen.stage("stop", "w > b")
    assert seen.span("stage b").parent is None


def test_steps_are_metrics(seen):
    for loss in (2.5, 1.5):
        seen.bus.emit(
            "training.step", {"loss": loss, "learning_rate": 1e-4, "tokens": 10, "seconds": 0.5}, {"run_id": "r"}
        )
    seen.stage("stop", "w > a")
    points = seen.points()
    assert points["crucible.training.steps"][0]["value"] == 2
    assert points["crucible.training.tokens"][0]["value"] == 20
    assert points["crucible.training.loss"][0]["value"] == 1.5
    assert points["crucible.training.step.duration"][0]["sum"] == 1.0
    assert points["crucible.stage.duration"][0]["attributes"] == {"crucible.stage": "a"}


GLOBAL = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
trace.set_tracer_provider(provider)
"""
OPENED = """
import pathlib
from crucible.telemetry import Bus
from crucible.telemetry.handlers import open_handler
bus, handler = Bus(), open_handler("otel", pathlib.Path("unused"))
bus.attach("otel", handler.events, handler)
bus.emit("workflow.start", {}, {"run_id": "r", "workflow": "w"})
bus.emit("workflow.stop", {"duration_ns": 1}, {"run_id": "r", "workflow": "w"})
handler.close()
"""


def run(code: str, environment: dict[str, str], monkeypatch) -> "subprocess.CompletedProcess[str]":
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


def test_opened_by_name_it_speaks_to_the_providers_of_the_process(monkeypatch):
    said = run(GLOBAL + OPENED, {}, monkeypatch)
    assert said.returncode == 0 and json.loads(said.stdout)["name"] == "workflow w"


def test_without_any_the_environment_names_the_exporters(monkeypatch):
    said = run(OPENED, {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none"}, monkeypatch)
    assert said.returncode == 0 and json.loads(said.stdout)["name"] == "workflow w"


def test_an_exporter_that_is_not_installed_is_a_sentence(monkeypatch):
    said = run(OPENED, {"OTEL_TRACES_EXPORTER": "consol"}, monkeypatch)
    assert "OTEL_TRACES_EXPORTER: no OpenTelemetry exporter of this name is installed" in said.stderr
    assert "did you mean console?" in said.stderr


def test_without_the_library_the_extra_is_named():
    code = "import sys; sys.modules['opentelemetry'] = None; import crucible.telemetry.opentelemetry"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr
    assert "pip install 'crucible-kitchen[otel]'" in said
