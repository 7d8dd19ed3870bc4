"""Does an environment's own reference answer win, and a wrong one lose? Asked before the first step costs anything."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Literal

from crucible.errors import UserError
from crucible.ports.sampling_client import Provenance
from crucible.ports.tokenizer import Tokenizer
from crucible.train.graders.graders import Graders
from crucible.train.rl.environments.rehearsed import Rehearsed
from crucible.train.rl.types import (
    Action,
    Env,
    EnvGroupBuilder,
    RLDataset,
    StopCondition,
    Surroundings,
    Trajectory,
    Transition,
)
from crucible.train.seeding import derive_seed

_NOBODY = Provenance(base_model="", digest="", policy_version=-1, temperature=1.0)

_EXACT = 1e-6


@dataclass(frozen=True, kw_only=True)
class CheckedProblem:
    """What came of playing one problem's known answers.

    state: `unchecked` where none are known. what: one line: what failed, or what was not checked.
    """

    problem: str
    state: Literal["passed", "failed", "unchecked"]
    what: str = ""


async def self_check(
    dataset: RLDataset, *, tokenizer: Tokenizer, graders: Graders, seed: int = 0, problems: int = 4
) -> list[CheckedProblem]:
    """Play the known answers to the first `problems` problems through the environment itself, its graders included.

    What a policy would have to say to win is said by its tokens; so a prompt whose stop is wrong, an answer that is
    not read, a row without a reference, and a grader that is broken, missing or too slow are all found. An error is a
    finding, but the user's own mistakes (a missing extra, a bad option) are raised.

    Raises:
        UserError: as the environment raises it.
    """
    checked: list[CheckedProblem] = []
    for batch in count():
        for builder in dataset.get_batch(batch):
            if len(checked) == problems:
                return checked
            place = f"self_check/{len(checked)}"
            around = Surroundings(seed=derive_seed(seed, "self check", len(checked)), graders=graders, place=place)
            checked.append(await _checked(builder, around, tokenizer))
    raise AssertionError("count() does not end")


def failures(checked: Sequence[CheckedProblem]) -> list[CheckedProblem]:
    """Those that failed."""
    return [one for one in checked if one.state == "failed"]


async def _checked(builder: EnvGroupBuilder, around: Surroundings, tokenizer: Tokenizer) -> CheckedProblem:
    if not isinstance(builder, Rehearsed):
        return await _begun(builder, around)
    known, seen = builder.rehearsal, ""
    for name, turns, low, high in (
        ("right", known.right, known.best, known.best),
        ("wrong", known.wrong, float("-inf"), known.worst),
    ):
        if turns is None:
            seen = "only a wrong answer is known"
            continue
        try:
            async with _made(builder, around) as env:
                trajectory = await _played(env, turns, tokenizer)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001  (whatever an environment raises is what is looked for)
            said = f"the {name} answer made it fail: {type(error).__name__}: {error}"
            return CheckedProblem(problem=builder.problem, state="failed", what=said)
        wrong = _finding(trajectory, low=low, high=high)
        if wrong:
            said = f"the {name} answer {_short(turns[-1])} {wrong}"
            return CheckedProblem(problem=builder.problem, state="failed", what=said)
    return CheckedProblem(problem=builder.problem, state="passed", what=seen)


@asynccontextmanager
async def _made(builder: EnvGroupBuilder, around: Surroundings) -> AsyncGenerator[Env]:
    """The first member's environment; all of them are closed after it."""
    envs = await builder.make_envs(around)
    async with AsyncExitStack() as opened:
        for env in envs:
            opened.push_async_callback(env.close)
        yield envs[0]


async def _begun(builder: EnvGroupBuilder, around: Surroundings) -> CheckedProblem:
    """That the first member sees something, where no answer is known. (Later ones may wait for its move.)"""
    try:
        async with _made(builder, around) as env:
            await env.initial_observation()
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001  (whatever an environment raises is what is looked for)
        said = f"it does not begin: {type(error).__name__}: {error}"
        return CheckedProblem(problem=builder.problem, state="failed", what=said)
    return CheckedProblem(problem=builder.problem, state="unchecked", what="it begins; no answer to it is known")


async def _played(env: Env, turns: Sequence[str], tokenizer: Tokenizer) -> Trajectory:
    """The episode in which the policy says these texts, or as many of them as it lasts."""
    observation, stop = await env.initial_observation()
    transitions: list[Transition] = []
    for text in turns:
        action = _said(text, stop, tokenizer)
        result = await env.step(action)
        transitions.append(Transition(observation=observation, action=action, result=result))
        if result.next_observation is None:
            return Trajectory(transitions=tuple(transitions), ended=result.ended)
        observation, stop = result.next_observation, result.next_stop
    return Trajectory(transitions=tuple(transitions), ended="turns")


def _said(text: str, stop: StopCondition, tokenizer: Tokenizer) -> Action:
    first = stop[0] if stop else ""
    if isinstance(first, int):
        tokens = [*tokenizer.encode_ordinary([text])[0], first]
    else:
        # A renderer's stop text may be a special token's, which only `encode` writes as that token.
        tokens = [*tokenizer.encode_ordinary([text])[0], *(tokenizer.encode(first).ids if first else ())]
    return Action(
        tokens=tuple(tokens),
        logprobs=(0.0,) * len(tokens),
        stop_reason="stop" if stop else "length",
        seed=0,
        provenance=_NOBODY,
    )


def _finding(trajectory: Trajectory, *, low: float, high: float) -> str:
    """What is wrong with what was earned; "" if nothing is."""
    reward = trajectory.reward
    if reward is None:
        [verdict, *_] = [one for one in trajectory.verdicts if one.state != "score"]
        return f"has no score: {verdict.state} ({verdict.detail})"
    if low - _EXACT <= reward <= high + _EXACT:
        return ""
    wanted = f"{high:g}" if low == high else f"at most {high:g}"
    details = "; ".join(one.detail for one in trajectory.verdicts if one.detail)
    return f"earned {reward:g}, not {wanted}" + (f" ({details})" if details else "")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
