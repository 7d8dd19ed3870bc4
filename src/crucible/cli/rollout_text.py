"""How do rollouts look on a terminal? A line for each step and each group, and single rollouts in full."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from crucible.cli.token_text import Marks, is_coloured, marks_for, shown
from crucible.runtime.token_rows import StepPoint
from crucible.train.rl.tree import GroupTree, MemberTree, StepTree, VerdictTree
from crucible.train.token_record import Figure, as_float

MOST_STEPS = 60
"""How many steps a terminal lists; of more, the first, the last and those evenly between."""


_ROUNDING = 1e-12  # what is smaller is what is left of a sum of equal numbers


@dataclass(frozen=True)
class FoundRollout:
    """A rollout and where it is."""

    step: StepTree
    group: GroupTree
    member: MemberTree


def rollout_steps_table(curve: Sequence[StepPoint]) -> Table:
    """One line for each step and evaluation: its rewards, and what became of its rollouts."""
    heads = ("step", "rollouts", "reward", "range", "equal", "no verdict", "tokens", "ended")
    lines = [_line(point) for point in _thinned(curve)]
    told = [place for place, head in enumerate(heads) if head == "step" or any(line[place] for line in lines)]
    table = _table(*(heads[place] for place in told))
    for column in table.columns[:-1]:
        column.no_wrap = True
    table.columns[-1].justify = "left"
    for line in lines:
        table.add_row(*(line[place] for place in told))
    return table


def groups_table(step: StepTree, console: Console) -> Table:
    """One line for each group of a step: its problem, and its members' rewards in their order."""
    marks = marks_for(console)
    table = _table("group", "problem", "tags", "reward", "std", "rewards", "ended", "left out")
    for column in (1, 2, 5, 6, 7):
        table.columns[column].justify = "left"
        table.columns[column].overflow = "fold"
    for group in step.groups:
        ended = _told([one.ended for one in group.members])
        left_out = _told([one.left_out for one in group.members if one.left_out])
        table.add_row(
            f"{group.index:,}",
            Text(shown(group.problem, marks)),
            Text(shown(", ".join(group.tags), marks)),
            _number(as_float(group.reward_mean), 3),
            _number(as_float(group.reward_std), 2),
            " ".join(_number(as_float(one.reward), 3) for one in group.members),
            ended,
            left_out,
        )
    return table


def lowest_rollouts(steps: Sequence[StepTree], count: int) -> list[FoundRollout]:
    """The rollouts with the lowest rewards, the lowest first; those without a reward before all."""
    found = [FoundRollout(step, group, one) for step in steps for group in step.groups for one in group.members]
    return sorted(found, key=lambda one: _rank(one.member.reward))[:count]


def print_rollout(found: FoundRollout, console: Console) -> None:
    """What it saw and said, turn by turn, what it earned and why."""
    marks = marks_for(console)
    for text in _lines(found, marks, coloured=is_coloured(console)):
        console.print(text, soft_wrap=True)


def _line(point: StepPoint) -> list[str]:
    """rollouts: and in how many groups; equal: how many groups have rewards that are all equal."""
    values = point.metrics
    mean, error = values.get("reward/mean"), values.get("reward/stderr")
    return [
        f"{point.step:,}" if point.purpose == "step" else f"eval {point.step:,}",
        f"{values['members']:,.0f} in {values['groups']:,.0f}",
        _number(mean, 3) + ("" if error is None else f" ± {_number(error, 2)}"),
        "" if point.lowest is None else f"{_number(point.lowest, 3)} to {_number(point.highest, 3)}",
        _count(values.get("groups_constant")),
        _count(values.get("verdicts_invalid", 0) + values.get("verdicts_timed_out", 0)),
        f"{values['total_ac_tokens']:,.0f}",
        ", ".join(f"{many:,} {how}" for how, many in point.ended.items()),
    ]


def _lines(found: FoundRollout, marks: Marks, *, coloured: bool) -> Iterator[Text]:
    step, group, member = found.step, found.group, found.member
    yield Text("\n" + shown(_heading(found, marks), marks), style="bold")
    if member.failure is not None:
        failure = member.failure
        what = f"failed after {failure.attempts} attempt(s): {failure.kind}: {failure.what}"
        yield Text(f"! {shown(what, marks)}", style="yellow")
    if member.left_out:
        yield Text(f"! trained nothing: {member.left_out}", style="yellow")
    opening, closing = ("", "") if coloured else marks.trained
    for number, turn in enumerate(member.turns, start=1):
        seen = group.prompt if turn.observed is None else turn.observed
        text = Text(shown(seen, marks), style="dim")
        text.append(f"{opening}{shown(turn.answered, marks)}{closing}", style="bold green")
        yield text
        policy = step.policies[turn.policy]
        facts = [f"turn {number}", f"{turn.tokens:,} tokens", f"reward {_number(as_float(turn.reward))}"]
        facts += ["cut at max_tokens"] if turn.stop_reason == "length" else []
        facts += [f"mean logprob {_number(as_float(turn.mean_logprob))}"] if turn.tokens else []
        facts += [f"policy {policy.policy_version}", f"seed {turn.seed}"]
        yield Text(shown(marks.dot.join(facts), marks), style="dim")
        yield from _verdict(turn.verdict, marks)
    yield from _verdict(member.group_verdict, marks)


def _verdict(verdict: VerdictTree | None, marks: Marks) -> Iterator[Text]:
    if verdict is not None:
        name = f"score {_number(as_float(verdict.score))}" if verdict.state == "score" else verdict.state
        text = f"verdict: {name}{marks.dot if verdict.detail else ''}{verdict.detail}"
        yield Text(shown(text, marks), style="" if verdict.state == "score" else "yellow")


def _heading(found: FoundRollout, marks: Marks) -> str:
    step, group, member = found.step, found.group, found.member
    parts = [
        f"step {step.step:,}" if step.purpose == "step" else f"evaluation after step {step.step:,}",
        f"group {group.index:,}, {group.problem}",
        f"member {member.member}",
        "no reward" if member.reward is None else f"reward {_number(as_float(member.reward))}",
    ]
    parts += [] if member.advantage is None else [f"advantage {_number(as_float(member.advantage))}"]
    return marks.dot.join([*parts, member.ended])


def _thinned(curve: Sequence[StepPoint]) -> list[StepPoint]:
    if len(curve) <= MOST_STEPS:
        return list(curve)
    places = {round(number * (len(curve) - 1) / (MOST_STEPS - 1)) for number in range(MOST_STEPS)}
    return [curve[place] for place in sorted(places)]


def _told(reasons: Sequence[str]) -> str:
    return ", ".join(f"{reasons.count(reason):,} {reason}" for reason in sorted(set(reasons)))


def _rank(reward: Figure) -> tuple[int, float]:
    value = as_float(reward)
    if value is None:
        return (0, 0.0)
    return (1, 0.0) if math.isnan(value) else (2, value)


def _number(value: float | None, digits: int = 4) -> str:
    if value is None:
        return "-"
    return "0" if abs(value) < _ROUNDING else f"{value:.{digits}g}"


def _count(value: float | None) -> str:
    return f"{value:,.0f}" if value else ""


def _table(*heads: str) -> Table:
    columns = (Column(header=Text(head), justify="right") for head in heads)
    return Table(*columns, box=None, pad_edge=False, header_style="bold")
