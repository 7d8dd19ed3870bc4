"""What did a run of reinforcement learning sample, and what was trained of it? Its rollouts as a tree, and their
sequences token by token, each with what the trainer said of it where a token record has that."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from crucible.errors import ConfigError, DataError, Problem
from crucible.runtime.rollout_choice import TOKENS, choose, groups_within, rollouts_of
from crucible.runtime.token_rows import RolloutPlace, RolloutsView, ViewRow, recorded_views
from crucible.train.rl.record import LearnedGroup, Rollouts, place_of_row, read_learned, read_rollouts
from crucible.train.rl.tree import StepTree, step_tree
from crucible.train.rl.tree_parts import Part, parts_of
from crucible.train.rl.types import TrajectoryGroup
from crucible.train.token_record import Figure, RecordedRow, StepRecord, as_float
from crucible.train.token_texts import TokenReader, TokenText


def view_rollouts(
    run_dir: Path, reader: TokenReader, records: Sequence[StepRecord], *, step: int | None = None, tokens: int = TOKENS
) -> tuple[RolloutsView, tuple[ViewRow, ...], list[str]]:
    """The rollouts of a run, their sequences, and what a reader must know of both.

    records: the run's token records. step: only this step, and an evaluation after it. tokens: how many are shown.

    Raises:
        DataError: naming every record that is damaged, of those that would be shown.
        ConfigError: if the step is not recorded.
    """
    found = [(point, file) for point, file in rollouts_of(run_dir) if step is None or point.step == step]
    if not found:
        steps = ", ".join(f"{point.step}" for point, _ in rollouts_of(run_dir) if point.purpose == "step")
        raise ConfigError.of("this step is not recorded", where="--step", given=repr(step), fix=f"Recorded: {steps}")
    points = [point for point, _ in found]
    chosen = choose(points, tokens=tokens)
    notes: list[str] = []
    if len(chosen) < len(points):
        notes.append(
            f"{len(chosen)} of {len(points)} recorded steps and evaluations are shown, up to {tokens:,} tokens "
            "together; for any other: --step N"
        )
    trees: list[StepTree] = []
    rows: list[ViewRow] = []
    by_step = {record.step: record for record in records}
    once = _Once(reader.tokenizer)
    for rollouts in _read_all(found[place][1] for place in chosen):
        record = by_step.get(rollouts.step) if rollouts.purpose == "step" else None
        tree, own, said = _step(run_dir, rollouts, once, record, tokens=tokens)
        once.found.clear()
        trees.append(tree)
        rows += own
        notes += said
    curve = tuple(replace(point, shown=place in chosen) for place, point in enumerate(points))
    return RolloutsView(curve=curve, steps=tuple(trees)), tuple(rows), notes


@dataclass
class _Once(TokenReader):
    """Reads each sequence once: the tree and the rows hold the same."""

    found: dict[tuple[int, ...], list[TokenText]] = field(default_factory=dict[tuple[int, ...], list[TokenText]])

    def read(self, ids: Sequence[int]) -> list[TokenText]:
        key = tuple(ids)
        if key not in self.found:
            self.found[key] = super().read(ids)
        return self.found[key]


def _read_all(files: Iterable[Path]) -> list[Rollouts]:
    found: list[Rollouts] = []
    problems: list[Problem] = []
    for file in files:
        try:
            found.append(read_rollouts(file))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return found


def _step(
    run_dir: Path, rollouts: Rollouts, reader: TokenReader, record: StepRecord | None, *, tokens: int
) -> tuple[StepTree, list[ViewRow], list[str]]:
    shown, notes = groups_within(rollouts, tokens=tokens), list[str]()
    named = f"{'step' if rollouts.purpose == 'step' else 'evaluation after step'} {rollouts.step}"
    if shown < len(rollouts.groups):
        notes.append(f"{named}: {len(rollouts.groups) - shown} further group(s) are not shown")
    learned = read_learned(run_dir, rollouts.step) if rollouts.purpose == "step" else {}
    unfit = [one.index for one in rollouts.groups if not _fits(learned.get(one.index), one)]
    if unfit:
        notes.append(f"{named}: what learning made of group {unfit[0]} is of another number of members: left out")
        learned = {}
    trained = _trained(record)
    rows = [
        view
        for group in rollouts.groups[:shown]
        for view in _views(rollouts, group, reader, learned.get(group.index), trained)
    ]
    if record is not None:
        groups = {group.index for group in rollouts.groups}
        others = [row for row in record.rows if (place := place_of_row(row.origin)) is None or place[0] not in groups]
        rest = StepRecord(version=record.version, step=record.step, epoch=record.epoch, rows=others, dropped=[])
        rows += recorded_views(rest, reader)
        if record.not_kept:
            notes.append(f"{named}: of {record.not_kept} further sequence(s) the trainer's logprobs are not recorded")
    return step_tree(rollouts, reader, learned=learned, groups=shown), rows, notes


def _fits(learned: LearnedGroup | None, group: TrajectoryGroup) -> bool:
    return learned is None or len(learned.advantages) == len(group.trajectories)


def _trained(record: StepRecord | None) -> dict[tuple[int, int, int], RecordedRow]:
    """The rows of a token record by (group, member, part)."""
    rows = [] if record is None else record.rows
    return {place: row for row in rows if (place := place_of_row(row.origin)) is not None}


def _views(
    rollouts: Rollouts,
    group: TrajectoryGroup,
    reader: TokenReader,
    learned: LearnedGroup | None,
    trained: Mapping[tuple[int, int, int], RecordedRow],
) -> Iterator[ViewRow]:
    for member, trajectory in enumerate(group.trajectories):
        advantage = None if learned is None or learned.left_out[member] else as_float(learned.advantages[member])
        for part in parts_of(trajectory):
            if part.number is None:
                continue
            place = RolloutPlace(
                purpose=rollouts.purpose, step=rollouts.step, group=group.index, member=member, part=part.number
            )
            versions = [trajectory.transitions[one.turn].action.provenance.policy_version for one in part.turns]
            view = ViewRow(
                origin=f"{group.problem}, group {group.index}, member {member}"
                + (f", part {part.number}" if part.number else ""),
                step=rollouts.step,
                ids=part.tokens,
                texts=reader.read(part.tokens),
                weights=[float(advantage is not None and one is not None) for one in part.logprobs],
                kept=len(part.tokens),
                advantages=None if advantage is None else [None if one is None else advantage for one in part.logprobs],
                sampler_logprobs=part.logprobs,
                policy_version=min(versions),
                rollout=place,
            )
            yield _joined(view, part, trained.get((group.index, member, part.number)))


def _joined(view: ViewRow, part: Part, row: RecordedRow | None) -> ViewRow:
    """The sequence with what the token record says of it."""
    if row is None:
        return view
    if row.tokens != part.tokens:
        same = sum(1 for one, other in zip(row.tokens, part.tokens, strict=False) if one == other)
        what = f"what was trained here is not what was sampled: {len(row.tokens)} tokens, {same} of them in their place"
        return replace(view, problems=(what,))
    broken = sum(isinstance(figure, str) for figure in row.logprobs)
    return replace(
        view,
        weights=[as_float(weight) or 0.0 for weight in row.weights],
        logprobs=_floats(row.logprobs),
        advantages=view.advantages if row.advantages is None else _sampled(row.advantages, part),
        problems=(f"{broken} token(s) have no finite logprob in training",) if broken else (),
    )


def _floats(figures: Sequence[Figure]) -> list[float | None]:
    return [as_float(figure) for figure in figures]


def _sampled(figures: Sequence[Figure], part: Part) -> list[float | None]:
    """The advantages where something was sampled: elsewhere a datum's 0 says nothing."""
    return [None if one is None else as_float(figure) for figure, one in zip(figures, part.logprobs, strict=True)]
