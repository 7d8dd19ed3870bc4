"""What a step was trained on is written down as it was, and the same again by a run that is continued."""

import json
from pathlib import Path
from typing import Any

import pytest

import crucible
from crucible.errors import Interrupted
from crucible.framework import RunResult, Stop
from crucible.kitchen import slots as s
from crucible.kitchen.stages.recording import RecordTokens
from crucible.telemetry import Event, default_bus
from crucible.train.token_record import read_record, record_files

CONFIG: dict[str, Any] = {"batch_size": 4, "eval_rows": 4, "max_steps": 9, "save_every": 4, "limit": 60}


def run(folder: Path, *, stop: Stop | None = None, adapters: dict[str, str] | None = None, **config: Any) -> RunResult:
    settings = {**CONFIG, **config}
    result = crucible.run("sl_basic", settings, manifest="test", adapters=adapters, run_dir=folder, stop=stop)
    assert isinstance(result, RunResult)
    return result


def steps(folder: Path) -> list[int]:
    return [read_record(file).step for file in record_files(folder)]


@pytest.mark.parametrize(("every", "recorded"), [(0, [1, 2, 4, 8]), (4, [4, 8]), (-1, []), (1, list(range(1, 10)))])
def test_the_steps_that_were_asked_for_are_recorded(tmp_path: Path, every: int, recorded: list[int]) -> None:
    run(tmp_path / "run", record_every=every)
    assert steps(tmp_path / "run") == recorded


def test_a_record_has_every_row_and_token_that_the_step_trained(tmp_path: Path) -> None:
    result = run(tmp_path / "run", record_every=1)
    for file, told in zip(record_files(tmp_path / "run"), result.metrics[1:], strict=False):
        record = read_record(file)
        assert record.step == told.step and len(record.rows) == told.values["rows"]
        assert sum(len(row.tokens) - 1 for row in record.rows) == told.values["tokens"]
        assert sum(weight != 0 for row in record.rows for weight in row.weights) == told.values["trained_tokens"]
        assert all(row.weights[0] == 0 and row.logprobs[0] is None for row in record.rows)


def test_the_recorded_logprobs_give_the_loss_that_was_reported(tmp_path: Path) -> None:
    result = run(tmp_path / "run", record_every=1)
    for file, told in zip(record_files(tmp_path / "run"), result.metrics[1:], strict=False):
        pairs = [pair for row in read_record(file).rows for pair in zip(row.weights, row.logprobs, strict=True)]
        known = [float(logprob) for weight, logprob in pairs if weight and logprob is not None]
        assert -sum(known) / len(known) == pytest.approx(told.values["loss"], rel=1e-6)


def test_rows_that_were_left_out_are_counted_with_the_reason(tmp_path: Path) -> None:
    answers = ["4", "", "5", None, "6", "7", "", "8"]
    rows = [{"question": f"which number is {place}?", "answer": answer} for place, answer in enumerate(answers)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "dataset": str(tmp_path / "rows.jsonl"),
        "eval_rows": 0,
        "batch_size": 8,
        "max_length": 75,
        "waive": "all",
    }
    run(tmp_path / "run", adapters={"dataset_store": "local"}, **config)
    (record,) = (read_record(file) for file in record_files(tmp_path / "run"))
    assert len(record.rows) + sum(dropped.count for dropped in record.dropped) == 8 > len(record.rows) > 0
    assert all(dropped.reason and str(tmp_path) in dropped.first_origin for dropped in record.dropped)


def test_the_same_run_writes_the_same_bytes_also_when_it_was_stopped_between(tmp_path: Path) -> None:
    run(tmp_path / "straight", record_every=1)
    stop = Stop()

    def listen(event: Event) -> None:
        if event.measurements["step"] == 5:
            stop.request()

    default_bus().attach("stopping", "training.step", listen)
    try:
        with pytest.raises(Interrupted):
            run(tmp_path / "stopped", stop=stop, record_every=1)
    finally:
        default_bus().detach("stopping")
    for file in record_files(tmp_path / "stopped")[4:]:
        file.unlink()  # as if the process had been killed before it wrote them
    run(tmp_path / "stopped", record_every=1)
    straight, stopped = ({file.name: file.read_bytes() for file in (tmp_path / name / "tokens").iterdir()}
                         for name in ("straight", "stopped"))  # fmt: skip
    assert len(straight) == 9 and {name: straight[name] for name in stopped} == stopped
    assert {"step-00000001.json", "step-00000009.json"} <= stopped.keys()


def test_wrong_options_are_found_before_the_run() -> None:
    slots = {"dataset": s.DATASET, "start": s.STEP_START, "batch": s.BATCH, "result": s.FB_RESULT}
    problems = list(RecordTokens("record_tokens", **slots, every=-2, max_tokens=0).check())
    assert [problem.where for problem in problems] == ["every", "max_tokens"]
