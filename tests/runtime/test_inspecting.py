"""What is shown is what is trained: the rows of a recipe's data, and those that a run recorded."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

import crucible
from crucible.errors import ConfigError, DataError
from crucible.framework import RunResult
from crucible.runtime.inspecting import inspect_data, inspect_run
from crucible.runtime.token_rows import ViewRow, recorded_views
from crucible.testing.fakes import FakeTokenizer
from crucible.train.token_record import VERSION, RecordedRow, StepRecord, read_record, record_files, write_record
from crucible.train.token_texts import TokenReader

CONFIG: dict[str, Any] = {"batch_size": 4, "eval_rows": 4, "max_steps": 5, "limit": 60}
LOCAL: dict[str, Any] = {"manifest": "test", "adapters": {"dataset_store": "local"}}


def run(folder: Path, *, config: dict[str, Any] | None = None, every: int = 1, **options: Any) -> RunResult:
    given: dict[str, Any] = {"manifest": "test", **options}
    result = crucible.run("sl_basic", {**CONFIG, "record_every": every, **(config or {})}, run_dir=folder, **given)
    assert isinstance(result, RunResult)
    return result


def data(tmp_path: Path, *rows: dict[str, Any], **config: Any) -> tuple[ViewRow, ...]:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return inspect_data("sl_basic", {"dataset": str(file), "eval_rows": 0, **config}, **LOCAL).rows


def trained_text(row: ViewRow) -> str:
    return "".join(row.texts[place].text for place in row.trained)


def test_what_is_trained_of_a_row_is_its_answer_and_the_end_of_its_turn(tmp_path: Path) -> None:
    (row,) = data(tmp_path, {"question": "2 and 2?", "answer": "4"})
    assert trained_text(row) == "4<|im_end|>" and row.kept == len(row.ids) and row.problems == ()
    assert row.origin == f"{tmp_path / 'rows.jsonl'}:1" and row.logprobs is None and row.step is None


def test_the_rows_are_the_ones_asked_for(tmp_path: Path) -> None:
    found = inspect_data("sl_basic", CONFIG, manifest="test", rows=3, start=5)
    assert [row.row for row in found.rows] == [5, 6, 7]
    assert found.facts["train_on"] == "all_assistant_messages" and found.facts["renderer"]


def test_what_max_length_cuts_off_is_shown_and_said(tmp_path: Path) -> None:
    (row,) = data(tmp_path, {"question": "?", "answer": "four " * 10}, max_length=60)
    assert len(row.ids) > row.kept == 60 and trained_text(row).startswith("four")
    assert "max_length=60 cuts off" in row.problems[0]


def test_a_row_that_cannot_be_used_is_there_with_the_reason(tmp_path: Path) -> None:
    good, broken, late = data(
        tmp_path,
        {"question": "?", "answer": "4"},
        {"question": "?", "answer": None},
        {"question": "so " * 60, "answer": "4"},
        max_length=60,
    )
    assert not good.problems and broken.ids == () and "answer" in broken.problems[0]
    assert late.trained == [] and "before its first trained token" in late.problems[0] and late.ids


def test_a_row_beyond_the_last_is_refused() -> None:
    with pytest.raises(DataError, match="no row 1,000: it has 56"):
        inspect_data("sl_basic", CONFIG, manifest="test", start=999)


def test_a_streams_rows_are_shown_too(tmp_path: Path) -> None:
    rows = [{"question": f"{place}?", "answer": "4"} for place in range(9)]
    assert len(data(tmp_path, *rows, streaming=True)) == 8


def test_a_run_shows_what_it_trained_with_logprobs_that_give_its_loss(tmp_path: Path) -> None:
    result = run(tmp_path / "run")
    found = inspect_run(tmp_path / "run")
    assert {row.step for row in found.rows} == {1, 2, 3, 4, 5} and len(found.rows) == 20
    for told in result.metrics[1:6]:
        known = [value for row in found.rows if row.step == told.step for value, _ in row.trained_logprobs]
        assert -sum(known) / len(known) == pytest.approx(told.values["loss"], rel=1e-6)
    assert all(trained_text(row).endswith("<|im_end|>") for row in found.rows)


def test_a_run_on_a_fake_backend_says_so(tmp_path: Path) -> None:
    run(tmp_path / "run")
    assert any("follow no model" in note for note in inspect_run(tmp_path / "run").notes)


def test_a_run_without_a_record_shows_the_same_rows_and_says_what_is_missing(tmp_path: Path) -> None:
    run(tmp_path / "with")
    run(tmp_path / "without", every=-1)
    seen, again = inspect_run(tmp_path / "with"), inspect_run(tmp_path / "without", rows=20)
    assert [(row.step, row.row, row.ids) for row in again.rows] == [(row.step, row.row, row.ids) for row in seen.rows]
    assert [row.trained for row in again.rows] == [row.trained for row in seen.rows]
    assert "without logprobs" in again.notes[0] and again.rows[0].logprobs is None


def test_a_streamed_run_without_a_record_shows_its_rows_in_the_order_of_training(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"question": f"{n}?", "answer": "4"}) + "\n" for n in range(30)))
    config = {"dataset": str(rows), "streaming": True, "eval_rows": 0}
    for name, every in (("with", 1), ("without", -1)):
        run(tmp_path / name, config=config, every=every, adapters={"dataset_store": "local"})
    seen, again = inspect_run(tmp_path / "with"), inspect_run(tmp_path / "without", rows=20)
    assert [(row.row, row.origin) for row in again.rows] == [(row.row, row.origin) for row in seen.rows]


def test_rows_that_were_trained_on_and_not_recorded_are_counted(tmp_path: Path) -> None:
    run(tmp_path / "run")
    last = read_record(record_files(tmp_path / "run")[-1])
    write_record(tmp_path / "run", msgspec.structs.replace(last, rows=last.rows[:1], not_kept=3))
    assert "step 5: 3 further row(s) were trained on and not recorded" in inspect_run(tmp_path / "run").notes


def test_every_damaged_record_is_named(tmp_path: Path) -> None:
    run(tmp_path / "run")
    for file in record_files(tmp_path / "run")[:2]:
        file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"step-00000001.*\n.*step-00000002"):
        inspect_run(tmp_path / "run")


def test_without_the_tokenizer_tokens_are_shown_by_their_ids(tmp_path: Path, tiny_model: Path) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    run(tmp_path / "run", config={"model": str(model)}, adapters={"tokenizer_store": "hf"})
    shutil.rmtree(model)
    found = inspect_run(tmp_path / "run")
    assert any("shown by their ids" in note for note in found.notes)
    assert [text.text for text in found.rows[0].texts[:1]] == [f"<|{found.rows[0].ids[0]}|>"]


def test_a_run_whose_config_names_no_model_shows_ids(tmp_path: Path) -> None:
    run(tmp_path / "run")
    file = tmp_path / "run" / "experiment.json"
    experiment = json.loads(file.read_bytes())
    del experiment["config"]["model"]
    file.write_text(json.dumps(experiment))
    assert any("names no model" in note for note in inspect_run(tmp_path / "run").notes)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run folder"):
        inspect_run(tmp_path)


def test_a_row_of_which_max_length_took_a_part_has_that_as_a_problem() -> None:
    recorded = RecordedRow(row=0, origin="a:1", tokens=[97], weights=[0.0], logprobs=[None], cut_tokens=3)
    record = StepRecord(version=VERSION, step=1, epoch=0, rows=[recorded], dropped=[])
    (view,) = recorded_views(record, TokenReader(FakeTokenizer()))
    assert view.problems == ("max_length cut off 3 more token(s)",)
