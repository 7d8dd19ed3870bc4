"""What a run would do is on record, the same bytes each time; what differs from a record is said."""

import json
from pathlib import Path

import pytest

from crucible.__main__ import main
from crucible.adapters.datasets import MemoryStore
from crucible.errors import ConfigError
from crucible.runtime.parity import ParityRecord, differences, parity_record, read_record, write_record


def row(number: int, answer: str = "") -> dict[str, str]:
    return {"question": f"what is {number}?", "answer": answer or f"it is {number}"}


ROWS = [row(number) for number in range(12)]


def record(rows=ROWS, **config: object) -> ParityRecord:
    settings = {"dataset": "mine", "eval_rows": 2, "batch_size": 3, **config}
    return parity_record(
        "sl_basic", settings, manifest="test", adapters={"dataset_store": MemoryStore({"mine": {"train": rows}})}
    )


def test_a_record_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_record(record(), tmp_path / name)
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert files[0] == files[1] and set(files[0]) == {"config.json", "data.json", "first_batch.json"}


def test_a_record_that_is_read_back_differs_in_nothing(tmp_path: Path) -> None:
    write_record(record(), tmp_path)
    assert differences(read_record(tmp_path), record()) == []


def test_the_first_batch_is_that_of_the_run(tmp_path: Path) -> None:
    batch = record().first_batch
    assert len(batch["datums"]) == 3 and batch["renderer"] and len(batch["sha256"]) == 64
    for datum in batch["datums"]:
        assert len(datum["tokens"]) == len(datum["weights"]) == len(datum["texts"]) and datum["weights"][0] == 0.0
        assert sum(datum["weights"]) == pytest.approx(1.0)


def test_config_keys_that_differ_are_named_with_both_values() -> None:
    told = differences(record(), record(learning_rate=1e-3, lora_rank=8))
    assert told == ["config: learning_rate was 0.0002 and is 0.001", "config: lora_rank was 32 and is 8"]


def test_a_changed_row_is_shown_by_its_first_token() -> None:
    first = record(eval_rows=0).first_batch["datums"][0]["row"]
    changed = [row(number, "it is not") if row(number) == ROWS[first] else row(number) for number in range(12)]
    data, batch = differences(record(eval_rows=0), record(changed, eval_rows=0))
    assert "the training rows are others" in data
    assert batch.startswith("first batch, datum ") and "token " in batch and "after '" in batch


def test_other_weights_of_the_same_tokens_are_shown() -> None:
    told = differences(record(), record(train_on="all_messages"))
    assert len(told) == 2 and "the weight of token" in told[1] and "was 0 and is" in told[1]


def test_rows_added_are_counted() -> None:
    assert "data: the training rows were 10 and are 11" in differences(record(), record([*ROWS, row(99)]))


def test_a_longer_row_is_shown_where_it_goes_on() -> None:
    told = differences(record(max_length=30, batch_size=1), record(batch_size=1, max_length=40))
    assert any("tokens and has" in sentence or "weight of token" in sentence for sentence in told)


def test_a_stream_has_a_record_too() -> None:
    streamed = record(streaming=True)
    assert streamed.data["train"]["rows"] is None and len(streamed.first_batch["datums"]) == 3


def test_a_record_is_not_overwritten_and_a_missing_or_damaged_one_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no parity record"):
        read_record(tmp_path)
    write_record(record(), tmp_path)
    with pytest.raises(ConfigError, match="already"):
        write_record(record(), tmp_path)
    (tmp_path / "data.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"data\.json"):
        read_record(tmp_path)


def test_the_command_records_and_compares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["plan", "sl_basic", "-m", "test", "batch_size=4"]
    assert main([*words, "--record", "parity"]) == 0
    assert json.loads((tmp_path / "parity" / "config.json").read_text())["batch_size"]["origin"] == "command line"
    assert main([*words, "--against", "parity"]) == 0
    assert "the same config, data and first batch" in capsys.readouterr().out
    assert main([*words, "--against", "parity", "seed=7"]) == 2
    assert "config: seed was 0 and is 7" in capsys.readouterr().out
    assert main([*words, "--against", "nowhere"]) == 2
