"""What was trained on in a step, token by token, and how is that kept in a file?

A step's file is `tokens/step-00000012.json` of the run's folder. It follows from config, data and seed alone (no
times), so that a run that is continued writes the same bytes again.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from crucible.errors import DataError
from crucible.framework import write_atomically
from crucible.ports.datum import Datum, EncodedTextChunk, ModelInput, TensorData

VERSION = 1
"""Of the files written here."""

FOLDER = "tokens"
"""The records' folder inside a run's."""

NO_TEXT = -1
"""Stands for a position that holds no token, such as one of an image's."""

Figure: TypeAlias = float | Literal["NaN", "Infinity", "-Infinity"] | None
"""A number; None where none was computed. JSON has no NaN: one that was computed is a text, as in `metrics.jsonl`."""


class RecordedRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One training sequence of N tokens. Every list has N entries; those of token t speak of predicting token t.

    row: its index in the data set; origin: where it came from. weights: the loss weights, 0 for the first token,
    which nothing predicts. logprobs: the trainer's, in nats, of this policy before the step. advantages: of policy
    gradients. sampler_logprobs: those that the token was sampled with. policy_version: which weights sampled it.
    cut_tokens: how many more there were before `max_length` took them; None where that is not known.
    """

    row: Annotated[int, msgspec.Meta(ge=0)]
    origin: str
    tokens: list[int]
    weights: list[Figure]
    logprobs: list[Figure]
    advantages: list[Figure] | None = None
    sampler_logprobs: list[Figure] | None = None
    policy_version: int | None = None
    cut_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None

    def __post_init__(self) -> None:
        lists = (self.weights, self.logprobs, self.advantages, self.sampler_logprobs)
        if any(one is not None and len(one) != len(self.tokens) for one in lists):
            raise ValueError(f"row {self.row} has lists of different lengths")


class DroppedRows(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows of the batch that were not trained on, for one reason. first_origin, example: of the first of them."""

    reason: str
    count: int
    first_origin: str
    example: str


class StepRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one step was trained on. not_kept: further rows that were trained on, and are not in this record."""

    version: int
    step: Annotated[int, msgspec.Meta(ge=0)]
    epoch: Annotated[int, msgspec.Meta(ge=0)]
    rows: list[RecordedRow]
    dropped: list[DroppedRows]
    not_kept: Annotated[int, msgspec.Meta(ge=0)] = 0


class _Version(msgspec.Struct, frozen=True):
    version: int


def recorded_row(
    datum: Datum,
    output: Mapping[str, TensorData],
    *,
    row: int,
    origin: str,
    policy_version: int | None = None,
    cut_tokens: int | None = None,
) -> RecordedRow:
    """A datum of N - 1 positions and what the backend returned for it, as a row of N tokens.

    The datum is shifted by one (inputs `tokens[:-1]`, targets `tokens[1:]`); the row is not. Weights are the datum's
    `weights` or `mask`; without either, 1 where its advantage is not 0, as the policy-gradient losses have it.
    """
    given = datum.loss_fn_inputs
    targets = given["target_tokens"].data
    assert targets.ndim == 1, "one target per position: top-k distillation has no single token to show"
    advantages = given["advantages"].data if "advantages" in given else None
    weight = _weights(given, len(targets))
    return RecordedRow(
        row=row,
        origin=origin,
        tokens=[*_first_token(datum.model_input), *(int(token) for token in targets)],
        weights=[0.0, *_figures(weight)],
        logprobs=[None, *_figures(output["logprobs"].data, computed=weight != 0)],
        advantages=None if advantages is None else [None, *_figures(advantages)],
        sampler_logprobs=[None, *_figures(given["logprobs"].data)] if "logprobs" in given else None,
        policy_version=policy_version,
        cut_tokens=cut_tokens,
    )


def keep_within(rows: Iterable[RecordedRow], *, tokens: int) -> tuple[list[RecordedRow], int]:
    """The first rows of up to `tokens` tokens together (one row at least), and how many more there were."""
    kept: list[RecordedRow] = []
    total = not_kept = 0
    for row in rows:
        total += len(row.tokens)
        if kept and (not_kept or total > tokens):
            not_kept += 1
        else:
            kept.append(row)
    return kept, not_kept


def is_due(step: int, every: int) -> bool:
    """Whether step `step`, from 1, is recorded. every: every n steps; 0 for steps 1, 2, 4, 8, ...; -1 for none."""
    if every < 0:
        return False
    return step % every == 0 if every else step & (step - 1) == 0


def step_file(run_dir: Path, step: int) -> Path:
    """Where a step's record is."""
    return run_dir / FOLDER / f"step-{step:08}.json"


def write_record(run_dir: Path, record: StepRecord) -> Path:
    """Write the record, whole or not at all.

    Raises:
        OSError: if the disk will not have it.
    """
    path = step_file(run_dir, record.step)
    write_atomically(path, msgspec.json.encode(record) + b"\n")
    return path


def record_files(run_dir: Path) -> list[Path]:
    """The records of a run, the earliest step first."""
    return sorted((run_dir / FOLDER).glob("step-*.json"))


def read_record(path: Path) -> StepRecord:
    """Read a record.

    Raises:
        DataError: if the file cannot be read, is damaged, or is of a version that is not known here.
    """
    try:
        text = path.read_bytes()
        version = msgspec.json.decode(text, type=_Version).version
        if version != VERSION:
            raise DataError.of(
                "is a token record of a version that this crucible does not know",
                where=str(path),
                given=str(version),
                fix="Read it with the crucible that made the run, or a newer one",
            )
        return msgspec.json.decode(text, type=StepRecord)
    except OSError as error:
        raise DataError.of(f"cannot be read: {error.strerror}", where=str(path)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        fix = "Delete it: the rest of the run can be inspected without it"
        raise DataError.of(f"is no whole token record: {error}", where=str(path), fix=fix) from error


def as_float(figure: Figure) -> float | None:
    """The number that a figure spells."""
    return None if figure is None else float(figure)


def _weights(given: Mapping[str, TensorData], positions: int) -> NDArray[np.float32]:
    for name in ("weights", "mask"):
        if name in given:
            return given[name].data.astype(np.float32)
    if "advantages" in given:
        return (given["advantages"].data != 0).astype(np.float32)
    return np.ones(positions, dtype=np.float32)


def _first_token(given: ModelInput) -> Iterator[int]:
    for chunk in given.chunks[:1]:
        yield chunk.tokens[0] if isinstance(chunk, EncodedTextChunk) else NO_TEXT


def _figures(
    values: NDArray[np.float32] | NDArray[np.int64], *, computed: NDArray[np.bool_] | None = None
) -> list[Figure]:
    """Float32 numbers, each as the shortest decimal that is it. computed: where NaN is a number that was computed."""
    single = values.astype(np.float32)
    decimals: Sequence[float] = single.astype(str).astype(np.float64).tolist()
    known: Iterable[bool] = repeat(True) if computed is None else chain(computed.tolist())
    return [_figure(value, is_known) for value, is_known in zip(decimals, known, strict=False)]


def _figure(value: float, is_known: bool) -> Figure:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN" if is_known else None
    return "Infinity" if value > 0 else "-Infinity"
