"""Which of a run's checkpoints may go, now that a newer one is written? Nothing here touches a disk."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from crucible.framework.entries import Keep
from crucible.framework.file_names import under
from crucible.framework.point import Point, Saved


@dataclass(frozen=True, kw_only=True)
class Held:
    """A checkpoint that may still be there. slots: what it holds of the slots that are costly to save. lines: those
    that it has in `checkpoints.jsonl`; none for a rolling one. ended: the slots that were closed by then."""

    slots: Mapping[str, Saved]
    lines: tuple[Mapping[str, Any], ...]
    ended: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """The names that its slots are saved under."""
        return frozenset(saved.name for saved in self.slots.values())

    @property
    def rolling(self) -> bool:
        """Whether it is needless once there is a later one."""
        return all(saved.rolling for saved in self.slots.values())

    @property
    def keep(self) -> Keep | None:
        """Who asked for it and how long it stays; None if a stage that sets no limit asked for it too."""
        wishes = [line.get("keep") for line in self.lines]
        return msgspec.convert(wishes[0], Keep) if wishes and all(wishes) else None


def held_in(points: Sequence[Point], costly: frozenset[str]) -> list[Held]:
    """The checkpoints that were written until the last of these points, oldest first."""
    held: list[Held] = []
    lines = 0
    for point in points:
        own = {
            slot: saved
            for slot, saved in point.slots.items()
            if slot in costly and saved.name in (point.name, under(point.name, slot))
        }
        if point.name and own:
            held.append(Held(slots=own, lines=point.checkpoints[lines:], ended=costly - point.slots.keys()))
        lines = len(point.checkpoints)
    return held


def doomed(
    held: Sequence[Held],
    *,
    values: Callable[[str], Mapping[int, float]],
    age: Callable[[Held], float | None],
) -> list[Held]:
    """The checkpoints that nothing keeps, oldest first.

    A rolling one stays while a resume would start from it, or would if the last one, rolling too, turned out to be
    damaged. Of the others, what the last two sets of saved slots that a
    resume may start from need stays, and so does one that a stage without `Keep` asked for. Apart from `age`, the
    answer follows from what is recorded, and a checkpoint that may go at one time may go at any later one: deleting
    can be cut short and done again.

    values: of a metric, by the step that they were recorded at. age: seconds since it was written, if that is known.
    """
    latest = _latest(held)
    needed = frozenset[str]().union(*latest)
    awaited = needed if held and held[-1].rolling else frozenset[str]().union(*latest[-1:])
    groups: dict[str, list[Held]] = {}
    policies: dict[str, Keep] = {}
    for one in held:
        keep = one.keep
        if keep is not None and not one.rolling:
            groups.setdefault(keep.stage, []).append(one)
            policies[keep.stage] = keep  # what the stage said last
    kept = {id(one) for stage, own in groups.items() for one in _kept(own, policies[stage], values, age)}
    limited = {id(one) for own in groups.values() for one in own}
    return [
        one
        for one in held
        if (one.rolling and not one.names & awaited)
        or (id(one) in limited and id(one) not in kept and not one.names & needed)
    ]


def _latest(held: Sequence[Held]) -> list[frozenset[str]]:
    """The names that the last two different sets of saved slots have."""
    now: dict[str, Saved] = {}
    sets: list[frozenset[str]] = []
    for one in held:
        now.update(one.slots)
        names = frozenset(saved.name for slot, saved in now.items() if slot not in one.ended)
        if sets[-1:] != [names]:
            sets.append(names)
    return sets[-2:]


def _kept(
    own: Sequence[Held],
    policy: Keep,
    values: Callable[[str], Mapping[int, float]],
    age: Callable[[Held], float | None],
) -> Iterator[Held]:
    """What the policy keeps of one stage's checkpoints."""
    at_step: Mapping[int, float] = values(policy.metric) if policy.best else {}
    own_values = [at_step.get(one.lines[0].get("step", -1)) for one in own]
    sign = -1 if policy.highest else 1
    ranked = sorted((sign * value, -place) for place, value in enumerate(own_values) if value is not None)
    best = {-place for _, place in ranked[: policy.best]}
    unlimited = not (policy.newest or policy.best)
    unranked = len(ranked) < policy.best  # a checkpoint without a value may still be one of the best
    for place, one in enumerate(own):
        old = age(one) if policy.ttl_seconds else None
        expired = old is not None and old > policy.ttl_seconds
        newest = unlimited or len(own) - place <= policy.newest or (unranked and own_values[place] is None)
        if place in best or (newest and not expired):
            yield one
