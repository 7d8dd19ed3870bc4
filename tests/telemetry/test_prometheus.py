"""Does a real scrape show a run, in bounded size?"""

import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from crucible.errors import ConfigError
from crucible.telemetry import Bus
from crucible.telemetry.prometheus import Prometheus

RUN = {"run_id": "first", "recipe": "sl_basic"}


@pytest.fixture
def handler() -> Iterator[Prometheus]:
    handler = Prometheus(port=0)
    yield handler
    handler.close()


@pytest.fixture
def bus(handler: Prometheus) -> Bus:
    bus = Bus()
    bus.attach("prometheus", handler.events, handler)
    bus.emit("workflow.start", {}, {**RUN, "workflow": "supervised"})
    return bus


def scrape(handler: Prometheus) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    with urllib.request.urlopen(handler.url, timeout=10) as response:
        text = response.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(handler: Prometheus, name: str, **labels: str) -> float:
    return scrape(handler)[f"crucible_{name}", frozenset({**RUN, **labels}.items())]


def test_steps_are_counted_and_the_last_ones_numbers_shown(handler, bus):
    for step, loss in ((1, 2.5), (2, 1.5)):
        measured = {"step": step, "total_steps": 9, "loss": loss, "learning_rate": 1e-4, "tokens": 100.0}
        bus.emit("training.step", {**measured, "seconds": 0.7, "tokens_per_second": 142.0}, {"run_id": "first"})
    assert value(handler, "training_steps_total") == 2
    assert value(handler, "training_tokens_total") == 200
    assert value(handler, "training_step") == 2
    assert value(handler, "training_steps_planned") == 9
    assert value(handler, "training_loss") == 1.5
    assert value(handler, "training_learning_rate") == 1e-4
    assert value(handler, "training_tokens_per_second") == 142
    assert value(handler, "training_step_seconds_sum") == pytest.approx(1.4)
    assert value(handler, "training_step_seconds_bucket", le="0.5") == 0
    assert value(handler, "training_step_seconds_bucket", le="1.0") == 2


def test_stages_have_durations_failures_and_retries(handler, bus):
    told = {"run_id": "first", "path": "w > fetch", "stage": "fetch"}
    bus.emit("stage.start", {}, told)
    bus.emit("stage.exception", {"duration_ns": 2_000_000}, {**told, "error": "TimeoutError", "message": "late"})
    bus.emit("stage.retry", {"attempt": 2}, told)
    bus.emit("stage.stop", {"duration_ns": 3_000_000}, told)
    assert value(handler, "stage_seconds_count", stage="fetch") == 2
    assert value(handler, "stage_seconds_sum", stage="fetch") == pytest.approx(0.005)
    assert value(handler, "stage_exceptions_total", stage="fetch", error="TimeoutError") == 1
    assert value(handler, "stage_retries_total", stage="fetch") == 1


def test_checkpoints_epochs_and_evaluations_are_shown(handler, bus):
    bus.emit("training.checkpoint", {"step": 20}, {"run_id": "first", "path": "checkpoints/000020"})
    bus.emit("training.epoch", {"epoch": 1}, {"run_id": "first"})
    bus.emit("eval.result", {"step": 20, "rows": 8, "eval/nll": 1.25}, {"run_id": "first", "label": "after"})
    assert value(handler, "training_checkpoints_total") == value(handler, "training_epochs_total") == 1
    assert value(handler, "eval_result", eval="eval/nll", label="after") == 1.25


@pytest.mark.parametrize("end", ["workflow.stop", "workflow.exception"])
def test_a_run_is_seen_to_run_and_to_end(handler, bus, end):
    assert value(handler, "workflow_running") == 1
    bus.emit(end, {"duration_ns": 1}, {**RUN, "workflow": "supervised", "error": "OSError"})
    assert value(handler, "workflow_running") == 0
    failed = ("crucible_workflow_exceptions_total", frozenset({**RUN, "error": "OSError"}.items())) in scrape(handler)
    assert failed == (end == "workflow.exception")


def test_however_many_runs_and_stages_come_the_page_stays_small(handler, bus):
    for number in range(500):
        bus.emit("training.step", {"loss": 1.0}, {"run_id": f"run-{number}"})
        bus.emit("stage.stop", {"duration_ns": 1}, {"run_id": "first", "stage": f"stage-{number}"})
    names = [name for name, _ in scrape(handler)]
    assert names.count("crucible_training_loss") == 64 and names.count("crucible_stage_seconds_count") == 257
    other = frozenset({"run_id": "other", "recipe": ""}.items())
    assert scrape(handler)["crucible_training_steps_total", other] == 500 - 63
    assert value(handler, "stage_seconds_count", stage="other") == 500 - 256


def test_a_port_that_is_taken_is_a_sentence(handler):
    with pytest.raises(ConfigError, match=rf"no scrape endpoint .*127\.0\.0\.1:{handler.port}.* 0 for any free one"):
        Prometheus(port=handler.port)


def test_two_handlers_share_nothing_and_closing_frees_the_port(handler):
    other = Prometheus(port=0)
    assert other.port != handler.port and other.registry is not handler.registry
    other.close()
    other.close()
    Prometheus(port=other.port).close()


def test_without_the_library_the_extra_is_named():
    code = "import sys; sys.modules['prometheus_client'] = None; import crucible.telemetry.prometheus"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr
    assert "pip install 'crucible-kitchen[prometheus]'" in said
