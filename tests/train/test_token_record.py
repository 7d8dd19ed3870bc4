"""A record holds what the backend was given and gave, and a file that is no whole record is refused."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.errors import DataError
from crucible.ports.datum import Datum, EncodedTextChunk, ImageChunk, ModelInput, TensorData
from crucible.train.token_record import (
    VERSION,
    RecordedRow,
    StepRecord,
    as_float,
    is_due,
    keep_within,
    read_record,
    record_files,
    recorded_row,
    step_file,
    write_record,
)

SINGLE = st.floats(width=32, allow_subnormal=False)


def datum(tokens: list[int], **inputs: list[float]) -> Datum:
    tensors = {name: TensorData(np.array(values, dtype=np.float32)) for name, values in inputs.items()}
    return Datum(ModelInput.from_ints(tokens[:-1]), {"target_tokens": TensorData(np.array(tokens[1:])), **tensors})


def output(*logprobs: float) -> dict[str, TensorData]:
    return {"logprobs": TensorData(np.array(logprobs, dtype=np.float32))}


def record(*rows: RecordedRow, step: int = 3) -> StepRecord:
    return StepRecord(version=VERSION, step=step, epoch=0, rows=list(rows), dropped=[])


def row(tokens: int = 2) -> RecordedRow:
    return RecordedRow(row=0, origin="here", tokens=[7] * tokens, weights=[0.0] * tokens, logprobs=[None] * tokens)


def test_what_is_said_of_a_position_stands_at_the_token_that_it_predicts() -> None:
    found = recorded_row(datum([5, 6, 7], weights=[0, 1]), output(math.nan, -0.5), row=4, origin="a:5")
    assert found.tokens == [5, 6, 7] and found.weights == [0, 0, 1] and found.logprobs == [None, None, -0.5]


def test_a_trained_token_without_a_finite_logprob_is_not_taken_for_one_that_was_not_computed() -> None:
    found = recorded_row(
        datum([5, 6, 7, 8], weights=[1, 1, 0]), output(math.nan, -math.inf, math.nan), row=0, origin=""
    )
    assert found.logprobs == [None, "NaN", "-Infinity", None]
    assert as_float(found.logprobs[2]) == -math.inf


def test_a_policy_gradient_datum_keeps_its_advantages_and_the_samplers_logprobs() -> None:
    sampled = datum([5, 6, 7], logprobs=[0, -0.25], advantages=[0, 1.5])
    found = recorded_row(sampled, output(-1, -0.5), row=0, origin="", policy_version=3)
    assert found.advantages == [None, 0, 1.5] and found.sampler_logprobs == [None, 0, -0.25]
    assert found.weights == [0, 0, 1] and found.policy_version == 3


def test_a_mask_says_which_tokens_are_trained_even_where_the_advantage_is_nothing() -> None:
    found = recorded_row(datum([5, 6, 7], mask=[0, 1], advantages=[0, 0]), output(-1, -0.5), row=0, origin="")
    assert found.weights == [0, 0, 1]


def test_an_image_at_the_start_is_no_token() -> None:
    image = ImageChunk(b"", "png", expected_tokens=1)
    targets = {"target_tokens": TensorData(np.array([6]))}
    found = recorded_row(Datum(ModelInput((image,)), targets), output(-1), row=0, origin="")
    assert found.tokens == [-1, 6]


@given(st.lists(SINGLE, min_size=1, max_size=8))
def test_every_float32_comes_back_as_itself(values: list[float]) -> None:
    weighted = datum([0] * (len(values) + 1), weights=[1.0] * len(values))
    found = recorded_row(weighted, output(*values), row=0, origin="").logprobs[1:]
    assert np.array_equal(np.array([as_float(one) for one in found], np.float32), np.float32(values), equal_nan=True)


def test_a_record_reads_as_it_was_written_and_writes_the_same_bytes_again(tmp_path: Path) -> None:
    written = record(recorded_row(datum([5, 6, 7], weights=[0, 1]), output(math.nan, -0.1), row=0, origin="ä"))
    data = write_record(tmp_path, written).read_bytes()
    assert read_record(step_file(tmp_path, 3)) == written and write_record(tmp_path, written).read_bytes() == data
    assert [file.name for file in (tmp_path / "tokens").iterdir()] == ["step-00000003.json"]


def test_records_come_in_the_order_of_their_steps(tmp_path: Path) -> None:
    for step in (16, 2, 128):
        write_record(tmp_path, record(row(), step=step))
    assert [read_record(file).step for file in record_files(tmp_path)] == [2, 16, 128]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "no whole token record"),
        (b'{"version":1,"step":3,"epoch":0,"rows":[{"row":0', "no whole token record"),
        (b'{"version":2,"step":3}', "of a version that this crucible does not know"),
        (b'{"version":1,"step":3,"epoch":0,"rows":[],"dropped":[],"colour":1}', "no whole token record"),
        (b'{"version":1,"step":3,"epoch":0,"rows":[],"dropped":[],"not_kept":-1}', "no whole token record"),
        (
            b'{"version":1,"step":3,"epoch":0,"rows":[{"row":0,"origin":"","tokens":[1],"weights":[],"logprobs":[null]}],'
            b'"dropped":[]}',
            "different lengths",
        ),
        (b"\xff\xfe", "no whole token record"),
    ],
)
def test_a_file_that_is_no_whole_record_is_refused_by_name(tmp_path: Path, text: bytes, says: str) -> None:
    file = tmp_path / "step-00000003.json"
    file.write_bytes(text)
    with pytest.raises(DataError, match=says) as refusal:
        read_record(file)
    assert len(refusal.value.problems) == 1 and str(file) in str(refusal.value)


def test_a_record_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_record(tmp_path / "step-00000003.json")


def test_due_steps() -> None:
    assert [step for step in range(1, 40) if is_due(step, 0)] == [1, 2, 4, 8, 16, 32]
    assert [step for step in range(1, 10) if is_due(step, 3)] == [3, 6, 9]
    assert not any(is_due(step, -1) for step in range(1, 10))


@given(st.lists(st.integers(1, 9), max_size=9), st.integers(1, 30))
def test_the_rows_kept_are_the_first_and_all_are_accounted_for(lengths: list[int], tokens: int) -> None:
    rows = [row(length) for length in lengths]
    kept, not_kept = keep_within(iter(rows), tokens=tokens)
    assert kept == rows[: len(kept)] and len(kept) + not_kept == len(rows)
    assert sum(lengths[: len(kept)]) <= tokens or len(kept) == 1
    assert not not_kept or sum(lengths[: len(kept) + 1]) > tokens


def test_text_chunks_after_the_first_do_not_matter_to_the_first_token() -> None:
    given_input = ModelInput((EncodedTextChunk((5,)), EncodedTextChunk((6,))))
    targets = {"target_tokens": TensorData(np.array([6, 7]))}
    assert recorded_row(Datum(given_input, targets), output(-1, -2), row=0, origin="").tokens == [5, 6, 7]
