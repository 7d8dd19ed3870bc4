"""Which of a run's recorded rollouts does a view show? As many steps as may be, those first that tell most."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from crucible.errors import DataError, Problem
from crucible.runtime.token_rows import StepPoint
from crucible.train.rl.record import Rollouts, RolloutsHead, read_head, rollout_files
from crucible.train.rl.record_values import numbers_of
from crucible.train.rl.tree_parts import tokens_of
from crucible.train.rl.types import Trajectory
from crucible.train.token_record import as_float

TOKENS = 400_000
"""How many tokens a view shows: a page of about 10 MB, which a browser opens at once."""


def rollouts_of(run_dir: Path) -> list[tuple[StepPoint, Path]]:
    """Every recorded step and evaluation, in the order in which they were sampled.

    Raises:
        DataError: naming every record that cannot be read so far.
    """
    found: list[tuple[StepPoint, Path]] = []
    problems: list[Problem] = []
    for file in [*rollout_files(run_dir), *rollout_files(run_dir, "eval")]:
        try:
            found.append((_point(read_head(file)), file))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return sorted(found, key=lambda one: (_when(one[0]), one[0].purpose))


def choose(points: Sequence[StepPoint], *, tokens: int = TOKENS) -> list[int]:
    """The places of the points to show, ascending: the last step, the first, the two round the largest fall of the
    mean reward, then the middle of what lies between, and so on, while they hold up to `tokens` tokens together. The
    last is always among them."""
    chosen: list[int] = []
    left = tokens
    for place in _by_interest(points):
        if not chosen or points[place].tokens <= left:
            chosen.append(place)
            left -= points[place].tokens
    return sorted(chosen)


def groups_within(rollouts: Rollouts, *, tokens: int) -> int:
    """How many of the first groups hold up to `tokens` tokens together; one at least."""
    total = kept = 0
    for group in rollouts.groups:
        total += sum(map(_tokens, group.trajectories))
        if kept and total > tokens:
            break
        kept += 1
    return kept


def _by_interest(points: Sequence[StepPoint]) -> list[int]:
    trained = [place for place, one in enumerate(points) if one.purpose == "step"]
    places = trained or list(range(len(points)))
    order = [places[-1], places[0]] if places else []
    falls = [
        (before - after, place)
        for place, (one, other) in enumerate(pairwise(trained), start=1)
        if (before := points[one].metrics.get("reward/mean")) is not None
        and (after := points[other].metrics.get("reward/mean")) is not None
    ]
    if falls:
        _, place = max(falls, key=lambda fall: (fall[0], -fall[1]))
        order += [trained[place], trained[place - 1]]
    spans = [(0, len(points) - 1)]
    for low, high in spans:  # grows as it is walked: halves, then quarters, and so on
        if low <= high:
            middle = (low + high) // 2
            order.append(middle)
            spans += [(low, middle - 1), (middle + 1, high)]
    return list(dict.fromkeys(order))


def _point(head: RolloutsHead) -> StepPoint:
    return StepPoint(
        purpose=head.purpose,
        step=head.step,
        metrics=numbers_of(head.metrics),
        lowest=as_float(head.lowest),
        highest=as_float(head.highest),
        ended=head.ended,
        tokens=head.tokens,
    )


def _tokens(trajectory: Trajectory) -> int:
    """Of its last turn, which mostly goes on where the others ended."""
    last = trajectory.transitions[-1:]
    return sum(len(tokens_of(one.observation)) + len(one.action.tokens) for one in last)


def _when(point: StepPoint) -> float:
    """Evaluations stand behind the step that they follow."""
    return point.step + (0.5 if point.purpose == "eval" else 0.0)
