"""Does an environment do the same again when the same is done to it? Only then can a run in it be continued exactly."""

from itertools import zip_longest

from crucible.ports.datum import ModelInput
from crucible.train.graders.graders import Graders
from crucible.train.rl.completer import Completer
from crucible.train.rl.rollout import RolloutLimits, rollout_group
from crucible.train.rl.strategy import MinimumGroup
from crucible.train.rl.types import (
    Action,
    EnvGroupBuilder,
    StopCondition,
    Trajectory,
    TrajectoryGroup,
    Transition,
)


class NeverDrawn(Exception):
    """A completion was asked for that nobody asked for when the group was rolled out."""


class RecordedCompleter(Completer):
    """Says what a group's policy said, found by the seeds that it was drawn with."""

    def __init__(self, group: TrajectoryGroup) -> None:
        self._drawn: dict[int, list[Action]] = {}
        for trajectory in group.trajectories:
            for turn in trajectory.transitions:
                self._drawn.setdefault(turn.action.seed, []).append(turn.action)

    async def complete(self, prompt: ModelInput, *, stop: StopCondition, seed: int, n: int = 1) -> list[Action]:
        del prompt, stop
        drawn = self._drawn.get(seed, [])
        if len(drawn) != n:
            raise NeverDrawn(f"{n} completions of the seed {seed} were asked for, and {len(drawn)} are known")
        return drawn


async def replay_differences(
    builder: EnvGroupBuilder, group: TrajectoryGroup, *, seed: int, graders: Graders, step: int, limits: RolloutLimits
) -> list[str]:
    """Play a group's actions again, in new environments of the same seed: what is otherwise than it was, in sentences.

    None for an environment that is a function of its seed and the actions; at most one for each member.

    seed, step, limits: those that the group was rolled out with. graders: asked again, at the same places. A group with
    a member that failed while it played cannot be played again: what the member said last is not on record.
    """
    for number, one in enumerate(group.trajectories):
        if one.ended == "failed" and one.failure is not None and one.failure.kind != "OutOfGame":
            return [f"member {number} failed, and what it said last is not known"]
    try:
        again = await rollout_group(
            builder,
            RecordedCompleter(group),
            index=group.index,
            seed=seed,
            graders=graders,
            step=step,
            limits=limits,
            strategy=MinimumGroup(members=0),
        )
    except NeverDrawn as error:
        return [f"another observation leads to another draw: {error}"]
    if len(again.trajectories) != len(group.trajectories):
        return [f"{len(group.trajectories)} members played, and now {len(again.trajectories)}"]
    members = [_difference(was, now) for was, now in zip(group.trajectories, again.trajectories, strict=True)]
    found = [f"member {number}: {what}" for number, what in enumerate(members) if what]
    judged = group.group_rewards == again.group_rewards
    return found if found or judged else ["the group's rewards are others"]


def _difference(was: Trajectory, now: Trajectory) -> str:
    for number, (before, after) in enumerate(zip_longest(was.transitions, now.transitions)):
        if before is None or after is None:
            break
        what = _what_differs(before, after)
        if what:
            return f"turn {number}: another {what}"
    turns, ended = (len(was.transitions), was.ended), (len(now.transitions), now.ended)
    if turns == ended:
        return ""
    why = f" ({now.failure.kind}: {now.failure.what})" if now.failure is not None else ""
    return f"it ended ({was.ended}) after {turns[0]} turns, and now ({now.ended}) after {ended[0]}{why}"


def _what_differs(was: Transition, now: Transition) -> str:
    if was.observation != now.observation:
        return "observation"
    for name in ("reward", "verdict", "episode_done", "next_observation", "ended", "metrics"):
        if getattr(was.result, name) != getattr(now.result, name):
            return name.replace("_", " ")
    return ""
