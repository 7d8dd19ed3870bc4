"""How does one member play its episode? Turn by turn: observe, sample, step, until the end or a limit."""

import asyncio
import contextlib
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from textwrap import shorten
from typing import TypeVar

from crucible.errors import ConfigError, MissingExtraError, PortError, StaleWeightsError, UnsupportedError
from crucible.train.messages import Message
from crucible.train.rl.completer import Completer
from crucible.train.rl.message_env import MessageEnv
from crucible.train.rl.opened import OpenEnvironments
from crucible.train.rl.players import PlayerEnv
from crucible.train.rl.types import (
    Action,
    Ended,
    Env,
    Failure,
    Observation,
    StepResult,
    StopCondition,
    Trajectory,
    Transition,
)
from crucible.train.seeding import derive_seed

T = TypeVar("T")

LARGEST = 1e30
"""Of a reward or a metric: beyond this, sums and squares of them would leave what numbers can hold."""

NEVER_DATA = (StaleWeightsError, ConfigError, MissingExtraError, UnsupportedError)
"""Errors that concern the whole run, whoever raises them: the run ends with them."""


@dataclass(frozen=True, kw_only=True)
class RolloutLimits:
    """What ends an episode that does not end by itself.

    max_tokens: most tokens of one turn, the completer's own. max_turns: most turns of a trajectory; None: no limit.
    context_length: most positions of the model; None: not known here. env_seconds: most seconds, of the clock on the
    wall, that an environment may take for one answer before its rollout has failed, as a last resort; None: no limit.
    A player waits for the others' moves, and has none.
    """

    max_tokens: int
    max_turns: int | None = None
    context_length: int | None = None
    env_seconds: float | None = None

    def __post_init__(self) -> None:
        assert self.max_tokens >= 1, "a turn has a token"
        assert self.env_seconds is None or self.env_seconds > 0, "an answer takes time"
        assert self.max_turns is None or self.max_turns >= 1, "an episode has a turn"

    def seconds_for(self, env: Env) -> float | None:
        """How long it may take for an answer."""
        return None if isinstance(env, PlayerEnv) else self.env_seconds

    def fits(self, observation: Observation) -> bool:
        """Whether there is room for a token after it."""
        return self.context_length is None or observation.length < self.context_length


@dataclass(frozen=True, kw_only=True)
class Begun:
    """What a member sees first."""

    observation: Observation
    stop: StopCondition

    def like(self, other: "Begun") -> bool:
        """Whether the same continuations can be drawn for both."""
        return self.observation == other.observation and list(self.stop) == list(other.stop)


class EpisodeFailed(Exception):
    """An environment raised, or a backend failed in a way that may pass.

    transitions: what came before. first: the messages of the first observation.
    """

    first: Sequence[Message] = ()

    def __init__(self, error: Exception, *, transitions: tuple[Transition, ...] = ()) -> None:
        super().__init__(f"{type(error).__name__}: {_words(error)}")
        self.error, self.transitions = error, transitions

    def trajectory(self, *, attempts: int) -> Trajectory:
        """What is left of the episode: data, with the reason."""
        what = shorten(_words(self.error), width=500, placeholder=" ...")  # one line
        failure = Failure(kind=type(self.error).__name__, what=what, attempts=attempts)
        return Trajectory(transitions=self.transitions, ended="failed", first=self.first, failure=failure)


def _words(error: Exception) -> str:
    try:
        return str(error)
    except Exception as another:  # noqa: BLE001  (an environment's error may be of its own making, and broken too)
        return f"and its message cannot be had: {type(another).__name__}"


@dataclass(kw_only=True, eq=False)
class Member:
    """One place of a group, through all its attempts.

    opened: the group's environments.
    drawn: what was sampled so far, by turn, with what it was sampled from: an attempt that sees the same again takes
    the same action again. begun: of the environment that is played next, the first observation, or why there is none.
    attempts: how many were begun.
    """

    number: int
    seed: int
    completer: Completer
    limits: RolloutLimits
    opened: OpenEnvironments
    drawn: dict[int, tuple[Begun, Action]] = field(default_factory=dict[int, tuple[Begun, Action]])
    begun: Begun | EpisodeFailed | None = None
    attempts: int = 0

    async def begin(self, env: Env) -> None:
        """Ask a new environment for its first observation."""
        self.attempts += 1
        try:
            seconds = self.limits.seconds_for(env)
            observation, stop = await of_environment(env.initial_observation(), seconds=seconds)
        except EpisodeFailed as failed:
            self.begun = failed
        else:
            self.begun = Begun(observation=observation, stop=stop)

    async def play(self, env: Env) -> Trajectory:
        """The episode in this environment, from its beginning; the environment is closed after it.

        Raises:
            EpisodeFailed: if the environment fails, or the backend in a way that may pass.
        """
        try:
            try:
                trajectory = await self._begun_and_played(env)
            except BaseException:
                with contextlib.suppress(Exception):  # what went wrong first is what matters
                    await self.opened.close(env)
                raise
            await of_environment(self.opened.close(env), trajectory.transitions)
        except EpisodeFailed as failed:
            failed.first = env.first_messages
            raise
        return trajectory

    async def _begun_and_played(self, env: Env) -> Trajectory:
        try:
            if self.begun is None:
                await self.begin(env)
            if not isinstance(self.begun, Begun):
                assert self.begun is not None, "it was begun"
                raise self.begun
            return await self._episode(env, self.begun)
        finally:
            self.begun = None
            if isinstance(env, PlayerEnv):
                env.leave()

    async def _episode(self, env: Env, seen: Begun) -> Trajectory:
        transitions: list[Transition] = []
        while (limit := self._limit(seen.observation, len(transitions))) is None:
            before = tuple(transitions)
            action = await of_backend(self._act(len(before), seen), before)
            result = await of_environment(_stepped(env, action), before, seconds=self.limits.seconds_for(env))
            transitions.append(Transition(observation=seen.observation, action=action, result=result))
            if result.next_observation is None:
                ended = self._ended(transitions[-1])
                return Trajectory(transitions=tuple(transitions), ended=ended, first=env.first_messages)
            seen = Begun(observation=result.next_observation, stop=result.next_stop)
        return await self._ended_by(limit, env, tuple(transitions))

    async def _act(self, turn: int, seen: Begun) -> Action:
        known = self.drawn.get(turn)
        if known is not None and known[0].like(seen):
            return known[1]
        seed = derive_seed(self.seed, "turn", self.number, turn)
        [action] = await self.completer.complete(seen.observation, stop=seen.stop, seed=seed)
        self.drawn[turn] = (seen, action)
        return action

    def _limit(self, observation: Observation, turns: int) -> Ended | None:
        if self.limits.max_turns is not None and turns >= self.limits.max_turns:
            return "turns"
        return None if self.limits.fits(observation) else "context"

    def _ended(self, turn: Transition) -> Ended:
        """The environment's word for it, but an answer that fills the context before `max_tokens` was cut by that."""
        sampled, context = len(turn.action.tokens), self.limits.context_length
        assert sampled <= self.limits.max_tokens, "the completer has the limits' own max_tokens"
        full = context is not None and turn.observation.length + sampled >= context
        return (
            "context" if turn.result.ended == "cut" and full and sampled < self.limits.max_tokens else turn.result.ended
        )

    async def _ended_by(self, limit: Ended, env: Env, transitions: tuple[Transition, ...]) -> Trajectory:
        extra = await of_environment(_paid_at_limit(env, limit), transitions)
        if not transitions:
            what = f"the first observation leaves no room in a context of {self.limits.context_length} tokens"
            failure = Failure(kind="context", what=what)
            return Trajectory(transitions=(), ended=limit, first=env.first_messages, failure=failure)
        last = transitions[-1]
        paid = replace(last, result=replace(last.result, reward=last.result.reward + extra))
        return Trajectory(transitions=(*transitions[:-1], paid), ended=limit, first=env.first_messages)


async def of_environment(
    call: Awaitable[T], transitions: tuple[Transition, ...] = (), *, seconds: float | None = None
) -> T:
    """Its outcome; what goes wrong in it is an `EpisodeFailed`, unless it concerns the whole run. seconds: after
    which it has gone wrong; None: never."""
    clock = asyncio.timeout(seconds)
    try:
        async with clock:
            return await call
    except NEVER_DATA:
        raise
    except TimeoutError as own:
        late = TimeoutError(f"no answer within env_seconds ({seconds:g}): such a run does not repeat")
        raise EpisodeFailed(late if clock.expired() else own, transitions=transitions) from own
    except (SystemExit, asyncio.CancelledError) as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
            raise  # we are cancelled; else it is an environment's own, which would end the run without a word
        own = RuntimeError(f"{type(error).__name__}: {error}".removesuffix(": "))
        raise EpisodeFailed(own, transitions=transitions) from error
    except Exception as error:
        if isinstance(error, PortError) and not error.retryable:
            raise
        raise EpisodeFailed(error, transitions=transitions) from error


async def of_backend(call: Awaitable[T], transitions: tuple[Transition, ...] = ()) -> T:
    """Its outcome; a backend's failure that may pass is an `EpisodeFailed`, and all else concerns the whole run."""
    try:
        return await call
    except PortError as error:
        if not error.retryable:
            raise
        raise EpisodeFailed(error, transitions=transitions) from error


async def _stepped(env: Env, action: Action) -> StepResult:
    result = await env.step(action)
    _refuse_no_numbers({"reward": result.reward, **result.metrics})
    return result


async def _paid_at_limit(env: Env, limit: Ended) -> float:
    extra = await env.ended_by_limit(limit) if isinstance(env, MessageEnv) else 0.0
    _refuse_no_numbers({"reward": extra})
    return extra


def _refuse_no_numbers(given: Mapping[str, float]) -> None:
    wrong = sorted(name for name, value in given.items() if not abs(value) <= LARGEST)  # a NaN is not below it either
    if wrong:
        raise ValueError("the environment gave " + ", ".join(f"{name} = {given[name]}" for name in wrong))
