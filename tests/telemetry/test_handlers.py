"""Does the console show a run, and the file keep it?"""

import io
import json
import math
import signal
import subprocess
import sys
from pathlib import Path

from rich.console import Console as RichConsole

from crucible.telemetry import Bus, Event, Jsonl, attach_default_handlers
from crucible.telemetry.console import Console


def training_step(step: int, total: int) -> Event:
    measured = {"step": step, "total_steps": total, "loss": 1.23456, "learning_rate": 2e-4, "tokens_per_second": 231.4}
    return Event("training.step", measured, {"run_id": "r", "stage": "log"}, 0)


def shown(*events: Event, terminal: bool) -> str:
    text = io.StringIO()
    console = Console(RichConsole(file=text, force_terminal=terminal, width=100, color_system=None))
    for event in events:
        console(event)
    console.close()
    return text.getvalue()


def test_without_a_terminal_each_step_is_a_plain_line() -> None:
    lines = shown(training_step(1, 2), training_step(2, 2), terminal=False).splitlines()
    assert lines == [
        "step 1/2  loss 1.2346  lr 2.00e-04  tok/s 231  ETA ?",
        "step 2/2  loss 1.2346  lr 2.00e-04  tok/s 231  ETA 0:00:00",
    ]


def test_without_a_terminal_a_long_run_prints_about_a_hundred_lines() -> None:
    lines = shown(*(training_step(step, 1000) for step in range(1, 1001)), terminal=False).splitlines()
    assert len(lines) == 101 and lines[0].startswith("step 1/1000") and lines[-1].startswith("step 1000/1000")


def test_on_a_terminal_the_steps_share_one_progress_line() -> None:
    text = shown(training_step(1, 2), training_step(2, 2), terminal=True)
    assert "step 2/2" in text and "loss 1.2346" in text and "ETA" in text and text.count("\n") == 1


def test_a_step_of_reinforcement_learning_shows_its_reward_in_place_of_a_loss_that_says_nothing() -> None:
    measured = {**training_step(1, 2).measurements, "reward/mean": 0.4375, "kl_sample_train": 1.25e-7}
    (line,) = shown(Event("training.step", measured, {}, 0), terminal=False).splitlines()
    assert line == "step 1/2  reward 0.438  kl 1.2e-07  lr 2.00e-04  tok/s 231  ETA ?"


def test_of_an_evaluation_of_rewards_the_reward_is_shown_and_not_every_number() -> None:
    measured = {"step": 0, "groups": 8, "eval/reward/mean": 0.5, "eval/reward/stderr": 0.1, "eval/turns": 1.0}
    (line,) = shown(Event("eval.result", measured, {"label": "before"}, 0), terminal=False).splitlines()
    assert line == "eval  label=before  step=0  groups=8  eval/reward/mean=0.5  eval/reward/stderr=0.1"


def test_rollouts_under_way_are_counted_on_a_terminal_and_silent_elsewhere() -> None:
    group = Event("rollout.group", {"done": 3, "total": 8, "step": 1, "total_steps": 10}, {}, 0)
    assert "rollouts 3/8" in shown(group, terminal=True) and shown(group, terminal=False) == ""


def test_a_run_that_ends_or_fails_leaves_the_terminal_as_it_was() -> None:
    for end in ("workflow.stop", "workflow.exception"):
        text = shown(training_step(1, 2), Event(end, {}, {}, 0), terminal=True)
        assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor: hidden once, shown once


def test_evaluations_and_checkpoints_are_lines_on_any_console() -> None:
    result = Event("eval.result", {"nll": 1.66312345}, {"run_id": "r", "stage": "evaluate", "name": "held_out"}, 0)
    saved = Event("training.checkpoint", {"step": 20}, {"path": "checkpoints/000020"}, 0)
    for terminal in (False, True):
        text = shown(result, saved, Event("training.epoch", {"epoch": 1}, {}, 0), terminal=terminal)
        assert text.splitlines() == [
            "eval  name=held_out  nll=1.663",
            "checkpoint  path=checkpoints/000020  step=20",
            "epoch  epoch=1",
        ]


def test_the_default_console_hears_training_and_not_each_stage() -> None:
    text, bus = io.StringIO(), Bus()
    attach_default_handlers(bus=bus, console=RichConsole(file=text, width=100))
    bus.emit("stage.stop", {"duration_ns": 1}, {"stage": "load"})
    bus.emit("training.step", training_step(1, 1).measurements)
    assert text.getvalue().splitlines() == ["step 1/1  loss 1.2346  lr 2.00e-04  tok/s 231  ETA ?"]


def test_each_event_is_one_line_of_the_file(tmp_path: Path) -> None:
    handler = Jsonl(tmp_path / "run" / "events.jsonl")
    handler(Event("training.step", {"loss": 1.5, "bad": math.nan}, {"run_id": "r", "path": Path("a\n")}, 7))
    handler.close()
    handler.close()
    (line,) = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "name": "training.step",
        "measurements": {"loss": 1.5, "bad": None},
        "metadata": {"run_id": "r", "path": "PosixPath('a\\n')"},
        "time_ns": 7,
    }


def test_a_second_handler_appends(tmp_path: Path) -> None:
    for _ in range(2):
        handler = Jsonl(tmp_path / "events.jsonl")
        handler(training_step(1, 1))
        handler.close()
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 2


def test_what_was_emitted_is_there_after_the_process_is_killed(tmp_path: Path) -> None:
    script = f"""
import os, pathlib, signal
from crucible.telemetry import Jsonl, attach, emit
attach("file", "*", Jsonl(pathlib.Path({str(tmp_path / "events.jsonl")!r})))
for step in range(5):
    emit("training.step", {{"step": step}})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["measurements"]["step"] for line in lines] == [0, 1, 2, 3, 4]
