"""A run's folder is read into what the store keeps, at any moment and in any state."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_folders import DAMAGED_FILES, real_run, save, written_run

from crucible.runtime.run_files import MARKS
from crucible.runtime.run_reading import FolderReader
from crucible.store.records import Edge, MetricLine, RunContents


def read(run_dir: Path, *, running: bool = False) -> RunContents:
    return FolderReader(run_dir).read(running=running).contents


def event(name: str, at: float, measurements: dict[str, object] | None = None, **metadata: object) -> str:
    line = {"name": name, "measurements": measurements or {}, "metadata": metadata, "time_ns": int(at * 1e9)}
    return json.dumps(line) + "\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "a"
    real_run(run_dir)
    return run_dir


def test_a_finished_run_is_read_as_its_summary_says(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    contents = read(finished)
    run = contents.run
    assert (run.name, run.state, run.recipe, run.warning) == ("a", "completed", "sl_basic", "")
    assert (run.step, run.total_steps, run.tokens) == (summary["steps"], summary["steps"], summary["tokens"])
    assert run.results["eval_nll_after"] == summary["eval_nll_after"] and "status" not in run.results
    assert run.config["max_steps"] == {"value": 6, "origin": "the caller"}
    assert [stage.path for stage in contents.stages if stage.path.endswith("log_step_metrics")]
    assert sum(stage.finished for stage in contents.stages if stage.path.endswith(" optim_step")) == 6
    assert contents.checkpoints[-1].final and contents.experiment is not None


def test_every_row_of_the_metrics_is_read(finished: Path) -> None:
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    found = [{"step": line.step, **line.values} for line in read(finished).metrics]
    assert found == rows


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.floats(0, 1), max_size=4).map(sorted))
def test_what_is_read_bit_by_bit_is_what_is_read_at_once(finished: Path, cuts: list[float]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "a"
        run_dir.mkdir()
        reader, lines = FolderReader(run_dir), []
        for cut in [*cuts, 1.0]:
            for name in MARKS:
                data = (finished / name).read_bytes()
                with (run_dir / name).open("r+b" if (run_dir / name).exists() else "w+b") as file:
                    file.write(data[: round(cut * len(data))])
            reading = reader.read(running=False)
            lines.extend(reading.contents.metrics)
        assert replace(reading.contents, metrics=tuple(lines)) == read(run_dir)


def test_metrics_that_a_resume_cut_off_are_read_anew(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "a", steps=5)
    reader = FolderReader(run_dir)
    assert len(reader.read(running=True).contents.metrics) == 5
    lines = (run_dir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run_dir / "metrics.jsonl").write_text("".join(lines[:3]))
    reading = reader.read(running=True)
    assert reading.whole and [line.step for line in reading.contents.metrics] == [1, 2, 3]


def test_a_resumed_runs_seconds_add_up_and_its_recomputed_steps_count_once(tmp_path: Path) -> None:
    run_dir = tmp_path / "a"
    run_dir.mkdir()
    step = {"step": 1, "total_steps": 2, "loss": 1.5, "tokens": 10}
    (run_dir / "events.jsonl").write_text(
        event("workflow.start", 100)
        + event("training.step", 103, step)
        + event("workflow.start", 1000)
        + event("training.step", 1001, step)
        + event("training.step", 1002, {**step, "step": 2})
        + event("stage.stop", 999, {"duration_ns": 5}, path="a > b")  # the clock went back
    )
    run = read(run_dir).run
    assert (run.started_at, run.seconds, run.tokens, run.step) == (100.0, 5.0, 20, 2)


@pytest.mark.parametrize(
    ("status", "running", "state"),
    [
        ("completed", False, "completed"),
        ("failed", False, "failed"),
        ("interrupted", False, "interrupted"),
        (None, False, "killed"),
        (None, True, "running"),
        ("interrupted", True, "running"),
        ("nonsense", False, "killed"),
    ],
)
def test_the_state_is_the_summarys_unless_a_process_is_at_it(
    tmp_path: Path, status: str | None, running: bool, state: str
) -> None:
    assert read(written_run(tmp_path / "a", status=status), running=running).run.state == state


def test_why_a_run_failed_is_kept_and_which_stage_did(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "a")
    told = {"error": "ValueError", "message": "no rows"}
    (run_dir / "events.jsonl").write_text(
        event("workflow.start", 1)
        + event("stage.start", 2, path="w > load")
        + event("stage.exception", 3, {"duration_ns": 1e9}, path="w > load", **told)
        + event("workflow.exception", 3, **told)
    )
    contents = read(run_dir)
    (stage,) = contents.stages
    assert contents.run.error == stage.error == "ValueError: no rows"
    assert (stage.started, stage.finished, stage.failed, stage.seconds) == (1, 0, 1, 1.0)


def test_texts_that_stand_for_nan_and_infinity_are_such_numbers(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "a")
    (run_dir / "metrics.jsonl").write_text('{"step": 1, "loss": "NaN", "up": "Infinity", "down": "-Infinity"}\n')
    (line,) = read(run_dir).metrics
    assert str(line.values) == "{'loss': nan, 'up': inf, 'down': -inf}"


def test_damaged_lines_are_left_out_and_counted_in_one_warning(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "a", steps=1)
    with (run_dir / "metrics.jsonl").open("ab") as file:
        file.write(b'{oops\n\xff\xfe\n{"step": true, "x": 1}\n{"step": 2, "loss": 0.5}\n{"step": 3, "lo')
    (run_dir / "summary.json").write_text("[1]")
    contents = read(run_dir)
    assert [(line.line, line.step) for line in contents.metrics] == [(0, 1), (4, 2)]
    assert contents.run.warning == "summary.json is damaged; 3 lines of metrics.jsonl are damaged, the first is 2"


def test_a_run_that_loads_anothers_checkpoint_says_so(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "b", steps=1, saves=(1,))
    path = "runs/a/checkpoints/weights/final"
    stage = {"node": "stage", "name": "load", "type": "LoadWeights", "options": {"path": path}}
    (run_dir / "experiment.json").write_text(json.dumps({"id": "x", "pipeline": [{"body": [stage]}], "config": {}}))
    edges = read(run_dir).edges
    loads = Edge(source_kind="run", source="b", relation="loads", target_kind="checkpoint", target="a/weights/final")
    assert loads in edges and [edge.relation for edge in edges] == ["made by", "loads", "of"]


def test_a_deleted_checkpoint_that_was_saved_again_is_not_deleted(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "a", steps=1)
    (run_dir / "retention.jsonl").write_text('{"name": "step-000001", "deleted_at": "2026-11-22"}\n')
    (run_dir / "checkpoints.jsonl").write_text(
        '{"name": "step-000001", "state_path": "checkpoints/weights/step-000001"}\n'
    )
    assert read(run_dir).checkpoints[0].deleted_at == "2026-11-22"
    save(run_dir, 1)
    assert read(run_dir).checkpoints[0].deleted_at == ""


@settings(max_examples=150, deadline=None)
@given(files=DAMAGED_FILES)
def test_no_folder_however_damaged_stops_the_reading(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "a"
        run_dir.mkdir()
        for name, data in files.items():
            (run_dir / name).write_bytes(data)
        contents = read(run_dir)
        assert contents.run.state in ("killed", "completed", "failed", "interrupted")
        assert all(isinstance(line, MetricLine) for line in contents.metrics)
