"""A run that goes on finds the rows that it began with, or says that they have changed."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

import crucible
from crucible.errors import ResumeError
from crucible.framework import RunResult, RunStopped, Stop
from crucible.telemetry import Event, default_bus

CONFIG: dict[str, object] = {"batch_size": 2, "eval_rows": 4, "epochs": 2, "max_steps": 12}


def write(file: Path, answers: str = "yes") -> Path:
    rows = [{"question": f"is it {number}?", "answer": f"{answers} {number}"} for number in range(20)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@contextmanager
def stopping_at(step: int) -> Iterator[Stop]:
    stop = Stop()

    def look(event: Event) -> None:
        if event.measurements["step"] >= step:
            stop.request()

    default_bus().attach("stopper", "training.step", look)
    try:
        yield stop
    finally:
        default_bus().detach("stopper")


def start(file: Path, folder: Path, *, stop: Stop | None = None, **config: object) -> RunResult:
    result = crucible.run(
        "sl_basic",
        {**CONFIG, "dataset": str(file), **config},
        manifest="test",
        adapters={"dataset_store": "local", "metrics_store": "jsonl"},
        run_dir=folder,
        stop=stop,
    )
    assert isinstance(result, RunResult)
    return result


def interrupted(file: Path, folder: Path, **config: object) -> None:
    with stopping_at(3) as stop, pytest.raises((RunStopped, KeyboardInterrupt)):
        start(file, folder, stop=stop, **config)


STREAMING: Mapping[str, object] = {"streaming": True, "shuffle_buffer": 5, "pipeline_depth": 2}


@pytest.mark.parametrize("config", [{}, STREAMING], ids=["held", "streamed"])
def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path: Path, config: dict[str, object]) -> None:
    file = write(tmp_path / "rows.jsonl")
    start(file, tmp_path / "straight", **config)
    interrupted(file, tmp_path / "run", **config)
    crucible.resume(tmp_path / "run")
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("straight", "run")]
    assert metrics[0] == metrics[1] and len(metrics[0].splitlines()) >= 12


@pytest.mark.parametrize(("config", "slot"), [({}, "train_rows"), (STREAMING, "train_stream")])
def test_a_data_file_changed_in_between_is_refused(tmp_path: Path, config: dict[str, object], slot: str) -> None:
    file = write(tmp_path / "rows.jsonl")
    interrupted(file, tmp_path / "run", **config, eval_rows=0)
    write(file, answers="no")
    with pytest.raises(ResumeError, match=slot):
        crucible.resume(tmp_path / "run")
    write(file)
    assert isinstance(crucible.resume(tmp_path / "run"), RunResult)


def test_held_out_rows_changed_in_between_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = write(tmp_path / "data" / "train.jsonl")
    held = write(tmp_path / "held.jsonl")

    def run(stop: Stop | None = None) -> None:
        crucible.run(
            "chat_sl",
            {**CONFIG, "dataset": str(file), "eval_dataset": str(held)},
            manifest="test",
            adapters={"dataset_store": "local"},
            run_dir=tmp_path / "run",
            stop=stop,
        )

    with stopping_at(3) as stop, pytest.raises((RunStopped, KeyboardInterrupt)):
        run(stop)
    write(held, answers="no")
    with pytest.raises(ResumeError, match="heldout_rows"):
        crucible.resume(tmp_path / "run")


def test_a_tokenizer_changed_in_between_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    file, model = write(tmp_path / "rows.jsonl"), tmp_path / "model"
    shutil.copytree(tiny_model, model)
    more = {"model": str(model), "lora_rank": 2}
    with stopping_at(3) as stop, pytest.raises((RunStopped, KeyboardInterrupt)):
        crucible.run("sl_basic", {**CONFIG, **more, "dataset": str(file)}, run_dir=tmp_path / "run", stop=stop)
    config = json.loads((model / "tokenizer_config.json").read_text())
    config["chat_template"] += "!"
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ResumeError, match="tokenizer"):
        crucible.resume(tmp_path / "run")
