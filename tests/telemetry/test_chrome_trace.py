"""Does a run's timeline hold its stages, also when they overlap, after a kill, and after a resume?"""

import json
import math
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from crucible.telemetry import Bus
from crucible.telemetry.chrome_trace import ChromeTrace


def told(path: str) -> dict[str, object]:
    return {"run_id": "r", "path": path, "stage": path.rpartition(" > ")[2]}


def traced(path: Path) -> tuple[Bus, ChromeTrace]:
    bus, handler = Bus(), ChromeTrace(path)
    bus.attach("trace", handler.events, handler)
    return bus, handler


def opened_and_closed(path: Path) -> None:
    bus, handler = traced(path)
    bus.emit("workflow.start", {}, {"run_id": "r"})
    handler.close()


def events(path: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """What Perfetto reads: the array, with or without its end."""
    text = path.read_text()
    found = json.loads(text if text.endswith("]\n") else text + "]")
    return [event for event in found if kind in (None, event["ph"])]


def test_a_run_is_one_valid_array_of_complete_events_and_counters(tmp_path):
    bus, handler = traced(tmp_path / "first" / "trace.json")
    bus.emit("workflow.start", {}, {"run_id": "r", "recipe": "sl_basic", "workflow": "w"})
    bus.emit("stage.start", {}, told("w > a"))
    time.sleep(0.002)
    bus.emit("stage.stop", {"duration_ns": 2_000_000}, told("w > a"))
    bus.emit("training.step", {"step": 1, "loss": 1.5, "tokens_per_second": 99.0}, {"run_id": "r"})
    bus.emit("workflow.stop", {"duration_ns": 3_000_000}, {"run_id": "r", "recipe": "sl_basic", "workflow": "w"})
    handler.close()
    handler.close()
    path = tmp_path / "first" / "trace.json"
    stage, workflow = events(path, "X")
    assert (stage["name"], stage["cat"], stage["dur"]) == ("a", "stage", 2000.0)
    assert stage["args"]["path"] == "w > a" and stage["args"]["thread"] == "MainThread"
    assert (workflow["name"], workflow["dur"], workflow["args"]["recipe"]) == ("w", 3000.0, "sl_basic")
    assert workflow["ts"] <= stage["ts"] <= workflow["ts"] + workflow["dur"]
    assert [event["args"] for event in events(path, "C")] == [{"loss": 1.5}, {"tokens_per_second": 99.0}]
    assert events(path)[0]["args"] == {"name": "crucible first"}
    assert all({"name", "ph", "ts", "pid", "tid"} <= event.keys() for event in events(path))


def test_stages_beside_each_other_have_lanes_of_their_own_and_lanes_are_used_again(tmp_path):
    bus, handler = traced(tmp_path / "trace.json")
    for name in ("start a", "start b", "stop a", "start c", "stop c", "stop b"):
        turn, stage = name.split()
        bus.emit(f"stage.{turn}", {}, told(f"w > {stage}"))
    handler.close()
    lanes = {event["name"]: event["tid"] for event in events(tmp_path / "trace.json", "X")}
    assert lanes == {"a": 1, "b": 2, "c": 1}
    names = [event["args"]["name"] for event in events(tmp_path / "trace.json", "M")]
    assert names == [f"crucible {tmp_path.name}", "workflow", "stages", "stages beside, 2"]


def test_a_failure_keeps_its_error_and_what_json_lacks_becomes_text(tmp_path):
    bus, handler = traced(tmp_path / "trace.json")
    bus.emit("stage.start", {}, told("w > a"))
    bus.emit(
        "stage.exception", {"duration_ns": 5, "x": math.nan}, {**told("w > a"), "error": "OSError", "at": Path("p")}
    )
    bus.emit("training.step", {"loss": math.inf}, {"run_id": "r"})
    bus.emit("stage.retry", {"attempt": 2}, told("w > a"))
    handler.close()
    (failed,) = events(tmp_path / "trace.json", "X")
    assert failed["args"]["error"] == "OSError" and failed["args"]["x"] == "nan"
    assert failed["args"]["at"] == "PosixPath('p')" and failed["args"]["event"] == "stage.exception"
    (retry,) = events(tmp_path / "trace.json", "i")
    assert (retry["name"], retry["args"]["attempt"]) == ("stage.retry", 2)
    assert events(tmp_path / "trace.json", "C") == []


def test_a_stop_without_its_start_is_drawn_from_its_duration(tmp_path):
    bus, handler = traced(tmp_path / "trace.json")
    bus.emit("stage.stop", {"duration_ns": 7_000_000}, told("w > a"))
    handler.close()
    (stage,) = events(tmp_path / "trace.json", "X")
    assert stage["dur"] == 7000.0


KILLED = """
import os, pathlib, signal, sys
from crucible.telemetry import attach, emit
from crucible.telemetry.chrome_trace import ChromeTrace
handler = ChromeTrace(pathlib.Path(sys.argv[1]))
attach("trace", handler.events, handler)
for number in range(3):
    told = {"run_id": "r", "path": f"w > {number}", "stage": str(number)}
    emit("stage.start", {}, told)
    emit("stage.stop", {"duration_ns": 1000}, told)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_kill_only_the_bracket_is_missing_and_a_resumed_run_goes_on_in_the_file(tmp_path):
    path = tmp_path / "trace.json"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL and not path.read_text().endswith("]\n")
    assert [event["name"] for event in events(path, "X")] == ["0", "1", "2"]
    bus, handler = traced(path)
    bus.emit("stage.stop", {"duration_ns": 1000}, told("w > 3"))
    handler.close()
    assert [event["name"] for event in events(path, "X")] == ["0", "1", "2", "3"]
    assert len({event["pid"] for event in events(path)}) == 2


@pytest.mark.parametrize("tail", ["", "\n]\n", "\n]", ',\n{"name": "cut', ","])
def test_any_end_of_a_file_can_be_gone_on_from(tmp_path, tail):
    path = tmp_path / "trace.json"
    path.write_text('[\n{"name": "old", "ph": "X"}' + tail)
    opened_and_closed(path)
    assert [event["name"] for event in events(path)] == ["old", "process_name", "thread_name"]


@pytest.mark.parametrize("text", ["", "[", "[\n", '[\n{"na', "nothing of ours"])
def test_a_file_without_a_whole_event_begins_anew(tmp_path, text):
    (tmp_path / "trace.json").write_text(text)
    opened_and_closed(tmp_path / "trace.json")
    assert [event["name"] for event in events(tmp_path / "trace.json")] == ["process_name", "thread_name"]


def test_a_run_that_never_began_leaves_nothing(tmp_path):
    traced(tmp_path / "run" / "trace.json")[1].close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_half_event_and_the_run_goes_on(tmp_path, caplog):
    path = tmp_path / "trace.json"
    bus, handler = traced(path)
    bus.emit("workflow.start", {}, {"run_id": "r"})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, limits[1]))
    try:
        bus.emit("stage.stop", {"duration_ns": 1000}, told("w > a"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    handler.close()
    assert events(path, "X") == [] and bus.attached() == () and len(caplog.records) == 1
