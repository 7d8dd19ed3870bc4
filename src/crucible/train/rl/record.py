"""Which rollouts did a step have, and how are they kept in a file?

A step's file is `rollouts/step-00000012.jsonl` of the run's folder: a line that says what it is and comes to, then one
line per group. What learning made of them is beside it, in `rollouts/learned-00000012.json`. Both follow from config,
data and seed alone (no times), so that a run that is continued writes the same bytes again, or takes the recorded
rollouts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec

from crucible.errors import DataError
from crucible.framework import write_atomically
from crucible.train.rl.record_line import decode_group as decode_group
from crucible.train.rl.record_line import encode_group as encode_group
from crucible.train.rl.record_values import figure_of, figures_of
from crucible.train.rl.rl_metrics import rollout_metrics
from crucible.train.rl.types import TrajectoryGroup
from crucible.train.token_record import Figure

__all__ = [
    "FOLDER",
    "VERSION",
    "LearnedGroup",
    "Purpose",
    "Rollouts",
    "RolloutsHead",
    "decode_group",
    "encode_group",
    "learned_group",
    "place_of_row",
    "read_head",
    "read_learned",
    "read_rollouts",
    "rollout_files",
    "rollouts_file",
    "row_origin",
    "write_learned",
    "write_rollouts",
]

VERSION = 1
"""Of the files written here."""

FOLDER = "rollouts"
"""The records' folder inside a run's."""

Purpose: TypeAlias = Literal["step", "eval"]
"""What the rollouts were sampled for: to be learned from, or to measure the policy."""


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """The groups of a step, in their order. step: from 1; of an evaluation, the steps done before it. drawn_as: as in
    `RolloutsHead`."""

    step: int
    purpose: Purpose
    groups: tuple[TrajectoryGroup, ...]
    drawn_as: str = ""


class RolloutsHead(msgspec.Struct, frozen=True, kw_only=True):
    """What a step's rollouts come to: the first line of their file.

    step: as in `Rollouts`. groups: how many lines follow. metrics: as `rollout_metrics` has them. lowest, highest: of
    the members' rewards; None without any. ended: how many members, by how. tokens: seen and sampled, each member's
    last turn standing for all. drawn_as: stands for the settings that they were drawn under; "" where nothing does.
    """

    version: int
    purpose: Purpose
    step: Annotated[int, msgspec.Meta(ge=0)]
    groups: Annotated[int, msgspec.Meta(ge=0)]
    metrics: dict[str, Figure]
    lowest: Figure
    highest: Figure
    ended: dict[str, int]
    tokens: int
    drawn_as: str = ""


class LearnedGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What learning made of a group of G members. group: its index. advantages: of each member, before anything that
    differs from token to token; None where there was none. left_out: why a member trained nothing; "" of one that
    did (`selection.LeftOut`)."""

    group: Annotated[int, msgspec.Meta(ge=0)]
    advantages: list[Figure]
    left_out: list[str]

    def __post_init__(self) -> None:
        if len(self.advantages) != len(self.left_out):
            raise ValueError(f"group {self.group} has lists of different lengths")


def learned_group(group: int, *, advantages: Sequence[float | None], left_out: Sequence[str] = ()) -> LearnedGroup:
    """What learning made of group `group`. left_out: nothing stands for: every member with an advantage trained."""
    return LearnedGroup(
        group=group,
        advantages=[None if one is None else figure_of(one) for one in advantages],
        left_out=list(left_out) or ["" if one is not None else "unscored" for one in advantages],
    )


def rollouts_file(run_dir: Path, step: int, purpose: Purpose = "step") -> Path:
    """Where the rollouts of a step are."""
    return run_dir / FOLDER / f"{purpose}-{step:08}.jsonl"


def rollout_files(run_dir: Path, purpose: Purpose = "step") -> list[Path]:
    """The rollouts of a run, the earliest step first."""
    return sorted((run_dir / FOLDER).glob(f"{purpose}-*.jsonl"))


def write_rollouts(
    run_dir: Path, step: int, groups: Sequence[TrajectoryGroup], *, purpose: Purpose = "step", drawn_as: str = ""
) -> Path:
    """Write the groups of a step, whole or not at all.

    Raises:
        DataError: if a group holds what is no JSON data.
        OSError: if the disk will not have it.
    """
    path = rollouts_file(run_dir, step, purpose)
    head = _head(step, purpose, groups, drawn_as)
    write_atomically(path, msgspec.json.encode(head) + b"\n" + b"".join(encode_group(group) for group in groups))
    return path


def read_rollouts(path: Path) -> Rollouts:
    """Read the groups of a step.

    Raises:
        DataError: if the file cannot be read, is damaged, or is of a version that is not known here.
    """
    lines = _read(path).splitlines()
    head = _decode(lines[0] if lines else b"", RolloutsHead, path)
    if len(lines) != head.groups + 1:
        what = f"is no whole record of rollouts: it has {max(len(lines) - 1, 0)} of {head.groups} groups"
        raise DataError.of(what, where=str(path), fix=_FIX)
    groups = tuple(decode_group(line, where=f"{path}:{number}") for number, line in enumerate(lines[1:], start=2))
    return Rollouts(step=head.step, purpose=head.purpose, groups=groups, drawn_as=head.drawn_as)


def read_head(path: Path) -> RolloutsHead:
    """Read what the rollouts of a step come to, without reading them.

    Raises:
        DataError: as `read_rollouts`, of the first line.
    """
    try:
        with path.open("rb") as file:
            line = file.readline()
    except OSError as error:
        raise DataError.of(f"cannot be read: {error.strerror}", where=str(path)) from error
    return _decode(line, RolloutsHead, path)


def write_learned(run_dir: Path, step: int, groups: Sequence[LearnedGroup]) -> Path:
    """Write what learning made of the groups of a step, whole or not at all.

    Raises:
        OSError: if the disk will not have it.
    """
    path = _learned_file(run_dir, step)
    write_atomically(path, msgspec.json.encode(_Learned(version=VERSION, step=step, groups=list(groups))) + b"\n")
    return path


def read_learned(run_dir: Path, step: int) -> dict[int, LearnedGroup]:
    """What learning made of the groups of a step, by their index; nothing where no file says so.

    Raises:
        DataError: as `read_rollouts`.
    """
    path = _learned_file(run_dir, step)
    if not path.exists():
        return {}
    return {one.group: one for one in _decode(_read(path), _Learned, path).groups}


def row_origin(group: int, member: int, part: int = 0) -> str:
    """How the token record of what was trained names a rollout's datum, as `RLDatum.place` does."""
    return f"{group}/{member}/{part}"


def place_of_row(origin: str) -> tuple[int, int, int] | None:
    """(group, member, part) of a row of the token record; None of a row that is no rollout's."""
    found = re.fullmatch(r"(\d+)/(\d+)/(\d+)", origin)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


_FIX = "Delete it: the rest of the run can be inspected without it"


class _Learned(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    step: int
    groups: list[LearnedGroup]


class _Version(msgspec.Struct, frozen=True):
    version: int


_Found = TypeVar("_Found", RolloutsHead, _Learned)


def _head(step: int, purpose: Purpose, groups: Sequence[TrajectoryGroup], drawn_as: str) -> RolloutsHead:
    members = [one for group in groups for one in group.trajectories]
    rewards = [reward for group in groups for reward in group.rewards if reward is not None]
    last = [turn for one in members for turn in one.transitions[-1:]]
    return RolloutsHead(
        version=VERSION,
        purpose=purpose,
        step=step,
        groups=len(groups),
        metrics=figures_of(rollout_metrics(groups)),
        lowest=figure_of(min(rewards)) if rewards else None,
        highest=figure_of(max(rewards)) if rewards else None,
        ended={how: sum(one.ended == how for one in members) for how in sorted({one.ended for one in members})},
        tokens=sum(turn.observation.length + len(turn.action.tokens) for turn in last),
        drawn_as=drawn_as,
    )


def _learned_file(run_dir: Path, step: int) -> Path:
    return run_dir / FOLDER / f"learned-{step:08}.json"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError.of(f"cannot be read: {error.strerror}", where=str(path)) from error


def _decode(text: bytes, kind: type[_Found], path: Path) -> _Found:
    try:
        version = msgspec.json.decode(text, type=_Version).version
        if version != VERSION:
            raise DataError.of(
                "is a record of rollouts of a version that this crucible does not know",
                where=str(path),
                given=str(version),
                fix="Read it with the crucible that made the run, or a newer one",
            )
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError.of(f"is no whole record of rollouts: {error}", where=str(path), fix=_FIX) from error
