"""What is shown of a training sequence? The same view of a row that a run recorded and of one that is only rendered."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from crucible.ports.dataset_store import Row
from crucible.train.data import BuiltDatum, RowRenderer
from crucible.train.data.dropped import DropCount
from crucible.train.renderers import RenderedExample
from crucible.train.rl.record import Purpose
from crucible.train.rl.tree import StepTree
from crucible.train.token_record import Figure, RecordedRow, StepRecord, as_float
from crucible.train.token_texts import TokenReader, TokenText


@dataclass(frozen=True, kw_only=True)
class RolloutPlace:
    """Which sequence of a rollout a row is: of what, in which step, of which group and member; part: which of the
    member's sequences, from 0."""

    purpose: Purpose
    step: int
    group: int
    member: int
    part: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewRow:
    """One training sequence of N tokens, ready to be shown. What is said of a token speaks of predicting it.

    step, epoch: in which it was trained; None where it has not been. row: its index in the data set; None for rows
    that are known by their count only. ids, texts, weights: N of each. kept: how many tokens come before the cut of
    `max_length`. logprobs, advantages, sampler_logprobs: N of each (None: not computed), or None where the record has
    none. problems, notes: sentences, of what is wrong and of what is good to know. rollout: where it was sampled; None
    of a row of data.
    """

    origin: str
    row: int | None = None
    step: int | None = None
    epoch: int | None = None
    ids: Sequence[int] = ()
    texts: Sequence[TokenText] = ()
    weights: Sequence[float] = ()
    kept: int = 0
    logprobs: Sequence[float | None] | None = None
    advantages: Sequence[float | None] | None = None
    sampler_logprobs: Sequence[float | None] | None = None
    policy_version: int | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rollout: RolloutPlace | None = None

    @property
    def trained(self) -> list[int]:
        """Positions of the tokens that train: kept, with a loss weight."""
        return [place for place, weight in enumerate(self.weights[: self.kept]) if weight != 0]

    @property
    def trained_logprobs(self) -> list[tuple[float, int]]:
        """(logprob, position) of the trained tokens whose logprob is known."""
        known = self.logprobs or ()
        return [(value, place) for place in self.trained if known and (value := known[place]) is not None]


@dataclass(frozen=True, kw_only=True)
class StepPoint:
    """What a step's rollouts, or an evaluation's, come to. metrics: as `rollout_metrics` has them. lowest, highest:
    rewards; None without any. ended: how many members, by how. tokens: seen and sampled. shown: its tree is here."""

    purpose: Purpose
    step: int
    metrics: Mapping[str, float]
    lowest: float | None
    highest: float | None
    ended: Mapping[str, int]
    tokens: int
    shown: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class RolloutsView:
    """The rollouts of a run. curve: of every recorded step and evaluation; steps: the trees of those that are shown."""

    curve: tuple[StepPoint, ...]
    steps: tuple[StepTree, ...]

    @property
    def last(self) -> StepTree:
        """Of the last step that is shown; of a run that only evaluated, of its last evaluation."""
        return next((one for one in reversed(self.steps) if one.purpose == "step"), self.steps[-1])


@dataclass(frozen=True, kw_only=True, eq=False)
class Inspection:
    """Rows and what they are. facts: names and values, for a headline. notes: what a reader must know. rollouts: of a
    run of reinforcement learning; `rows` are then the sequences of the steps that are shown."""

    title: str
    facts: Mapping[str, str]
    notes: tuple[str, ...]
    rows: tuple[ViewRow, ...]
    rollouts: RolloutsView | None = None


def recorded_views(record: StepRecord, reader: TokenReader) -> Iterator[ViewRow]:
    """The rows of a step, then a line for each reason for which rows of its batch were left out."""
    for row in record.rows:
        yield ViewRow(
            step=record.step,
            epoch=record.epoch,
            row=row.row,
            origin=row.origin,
            ids=row.tokens,
            texts=reader.read(row.tokens),
            weights=[as_float(weight) or 0.0 for weight in row.weights],
            kept=len(row.tokens),
            logprobs=_floats(row.logprobs),
            advantages=_floats(row.advantages),
            sampler_logprobs=_floats(row.sampler_logprobs),
            policy_version=row.policy_version,
            problems=tuple(_recorded_problems(row)),
        )
    for dropped in record.dropped:
        what = f"{dropped.count} row(s) of the batch were not trained on, the first for this: {dropped.example}"
        yield ViewRow(step=record.step, epoch=record.epoch, origin=dropped.first_origin, problems=(what,))


def rendered_views(
    rendering: RowRenderer,
    values: Row,
    *,
    row: int,
    origin: str,
    reader: TokenReader,
    step: int | None = None,
) -> Iterator[ViewRow]:
    """The examples of a row, usually one, as they are rendered; of a row that cannot be, the reason."""
    drops = DropCount()
    found = rendering.row(values, origin, drops)
    reasons = [dropped.example for dropped in drops.by_reason().values()]
    epoch = None if step is None else 0
    if found is None:
        yield ViewRow(row=row, origin=origin, step=step, epoch=epoch, problems=tuple(reasons))
        return
    for example, built in zip(found.examples, found.built, strict=True):
        ids = [int(token) for token in example.tokens]
        yield ViewRow(
            row=row,
            origin=origin,
            step=step,
            epoch=epoch,
            ids=ids,
            texts=reader.read(ids),
            weights=[float(weight) for weight in example.weights],
            kept=len(ids) - built.cut_tokens,
            problems=(*reasons, *_rendered_problems(example, built, rendering.max_length)),
        )


def _rendered_problems(example: RenderedExample, built: BuiltDatum, max_length: int | None) -> Iterator[str]:
    if built.datum is not None and built.cut_tokens:
        what = f"max_length={max_length} cuts off {built.cut_tokens} of {built.tokens} tokens"
        yield f"{what}, {built.cut_trained_tokens} of them trained"
    if example.ends_without_stop:
        turns = example.ends_without_stop
        yield f"{turns} trained turn(s) have no end-of-turn token: a model trained on them does not learn to stop"


def _recorded_problems(row: RecordedRow) -> Iterator[str]:
    if row.cut_tokens:
        yield f"max_length cut off {row.cut_tokens} more token(s)"
    broken = sum(isinstance(figure, str) for figure in row.logprobs)
    if broken:
        yield f"{broken} trained token(s) have no finite logprob"


def _floats(figures: Sequence[Figure] | None) -> list[float | None] | None:
    return None if figures is None else [as_float(figure) for figure in figures]
