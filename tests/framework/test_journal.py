"""Is what a run recorded where it should be, whole, in order?"""

# ruff: noqa: ARG002  (a store takes what it is given, wanted or not)

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from toys import Engine, supervised

from crucible.errors import PortError
from crucible.framework import Journal, Run, execute, read_history, write_atomically
from crucible.framework.position import BEGINNING
from crucible.ports import MetricsStore
from crucible.ports.metrics_store import MetricsRow
from crucible.telemetry import Bus


class Listing(MetricsStore):
    """Keeps what it was asked, in order."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def record(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        self.asked.append((run_id, step, dict(values)))

    def flush(self, run_id: str) -> None:
        self.asked.append(f"flush {run_id}")

    def read(self, run_id: str, *, first: int = 0, last: int | None = None) -> list[MetricsRow]:
        raise AssertionError(f"nobody reads {run_id} here, {first} to {last}")

    def truncate(self, run_id: str, rows: int) -> None:
        raise AssertionError(f"nobody truncates {run_id} here, to {rows}")


async def test_metrics_reach_the_runs_store_and_are_durable_at_checkpoints_and_at_the_end() -> None:
    store = Listing()
    workflow = supervised(epochs=1, data=[2, 3], save_every=1)
    await execute(workflow, Run(run_id="r"), {"engine": Engine(), "metrics_store": store}, telemetry=Bus())
    first, second = ("r", 1, {"total": 4.0}), ("r", 2, {"total": 13.0})
    assert store.asked == [first, "flush r", second, "flush r", "flush r", "flush r"]


async def test_checkpoints_are_lines_of_a_file_in_the_run_directory(tmp_path: Path) -> None:
    run = Run(run_id="r", run_dir=tmp_path / "new")
    await execute(supervised(), run, {"engine": Engine()}, telemetry=Bus())
    lines = (tmp_path / "new" / "checkpoints.jsonl").read_bytes().splitlines(keepends=True)
    assert lines == [b'{"step":2}\n', b'{"step":4}\n', b'{"step":6}\n', b'{"step":6}\n']


def test_checkpoints_are_there_after_the_process_is_killed(tmp_path: Path) -> None:
    script = f"""
import os, pathlib, signal
from crucible.framework import Journal
from crucible.framework.entries import Checkpoint
journal = Journal(run_dir=pathlib.Path({str(tmp_path)!r}))
for step in range(3):
    journal.add(Checkpoint({{"step": step, "path": "grüße\\n"}}))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    lines = (tmp_path / "checkpoints.jsonl").read_bytes().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": step, "path": "grüße\n"} for step in range(3)]


async def test_the_rows_that_a_point_counts_are_durable_before_it(tmp_path: Path) -> None:
    points_at_flush: list[int] = []

    class Watched(Listing):
        def flush(self, run_id: str) -> None:
            points_at_flush.append((tmp_path / "journal.jsonl").read_bytes().count(b"\n"))

    journal = Journal(run_id="r", run_dir=tmp_path, store=Watched())
    for durable in (False, True):
        journal.commit(BEGINNING, {}, fingerprints={}, durable=durable)
    assert points_at_flush == [1]


async def test_a_row_that_the_store_refused_is_not_counted(tmp_path: Path) -> None:
    class Full(Listing):
        def record(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
            raise PortError("the disk is full", port="metrics_store", adapter="jsonl")

    journal = Journal(run_id="r", run_dir=tmp_path, store=Full())
    with pytest.raises(PortError):
        journal.add(MetricsRow(step=1, values={"loss": 1.0}))
    journal.commit(BEGINNING, {}, fingerprints={})
    assert journal.metrics == [] and read_history(tmp_path).last.metrics_rows == 0


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "summary.json"
    for data in (b"old", b"new"):
        write_atomically(target, data)
        assert target.read_bytes() == data
    assert [path.name for path in target.parent.iterdir()] == ["summary.json"]


def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "checkpoints"
    target.mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(target, b"new")
    assert list(tmp_path.iterdir()) == [target] and target.is_dir()
