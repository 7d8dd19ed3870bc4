"""What is an environment that talks? One that answers the model's messages with messages."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crucible.errors import RendererError
from crucible.train.graders.verdict import Verdict
from crucible.train.messages import Message, Tool
from crucible.train.renderers.renderer import Renderer
from crucible.train.renderers.transcript import Transcript
from crucible.train.rl.prompt_form import how_it_ended
from crucible.train.rl.seat import Seat
from crucible.train.rl.types import Action, Ended, Env, Observation, StepResult, StopCondition


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the environment says to a message. messages: what the model hears next; none where the episode is over.

    The rest is as in `StepResult`.
    """

    reward: float = 0.0
    messages: Sequence[Message] = ()
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    logs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    verdict: Verdict | None = None
    ended: Ended = "done"

    @property
    def over(self) -> bool:
        """Whether the episode ends here."""
        return not self.messages


@dataclass(kw_only=True, eq=False)
class MessageEnv(Env):
    """A conversation with the policy, kept as a `Transcript`: sampled tokens are never tokenised again, and each
    observation begins with the one before and what was sampled on it, wherever the renderer leaves history as it was.

    Subclass it (as a dataclass, where it has data of its own) and write `opening` and `reply`. An answer that was cut
    at `max_tokens`, or holds special tokens where none may be, ends the episode with `cut_reward` or
    `malformed_reward` (tinker-cookbook's values); `reply` never sees it.

    seat: which member of which group this is. tools: declared to the model. stop: what ends its turns, instead of the
    renderer's own stop sequences. turn: how many turns of the policy were answered so far.
    """

    renderer: Renderer
    seat: Seat
    tools: Sequence[Tool] = ()
    stop: StopCondition = ()
    malformed_reward: float = -1.0
    cut_reward: float = -0.1
    turn: int = field(default=0, init=False)
    _transcript: Transcript | None = field(default=None, init=False)
    _opening: Sequence[Message] = field(default=(), init=False)

    @abstractmethod
    async def opening(self) -> Sequence[Message]:
        """The conversation up to the model's first turn."""

    @abstractmethod
    async def reply(self, message: Message) -> Reply:
        """What comes of the model's message."""

    async def ended_early(self, message: Message, ended: Ended) -> Reply:
        """What comes of a message that was `cut` or is `malformed`: the end, with the reward for that."""
        del message
        return Reply(reward=self.cut_reward if ended == "cut" else self.malformed_reward, ended=ended)

    async def ended_by_limit(self, ended: Ended) -> float:
        """What the last turn earns besides, if the rollout is ended after it: because as many turns were taken as are
        allowed (`turns`), or because the next observation would not fit (`context`)."""
        del ended
        return 0.0

    async def grade(self, grader: str, item: Mapping[str, Any]) -> Verdict:
        """The verdict of the grader of that name on `item` (JSON data), on record for this turn."""
        return await self.seat.grade(grader, item, turn=self.turn)

    @property
    def messages(self) -> Sequence[Message]:
        """The conversation so far."""
        return self._transcript.messages if self._transcript is not None else ()

    @property
    def first_messages(self) -> Sequence[Message]:
        return self._opening

    async def initial_observation(self) -> tuple[Observation, StopCondition]:
        self._opening = tuple(await self.opening())
        self._transcript = Transcript.begin(self.renderer, self._opening, tools=self.tools)
        return self._transcript.prompt, self._stop

    async def step(self, action: Action) -> StepResult:
        assert self._transcript is not None, "an environment is asked for its first observation first"
        transcript = self._transcript.sampled(action.tokens, action.logprobs)
        self._transcript = transcript
        message, response = transcript.messages[-1], transcript.responses[-1]
        ended = how_it_ended(response.ended, action)
        reply = await (self.reply(message) if ended == "done" else self.ended_early(message, ended))
        if not reply.over:
            try:
                self._transcript = transcript.answered(reply.messages)
            except RendererError as error:
                if self.can_be_history(transcript.messages):
                    raise
                reply = await self.ended_early(message, "malformed")
                reply = _noted(reply, "unwritable", str(error))
        self.turn += 1
        return self._result(message, reply)

    @property
    def _stop(self) -> StopCondition:
        return self.stop or self.renderer.stop_sequences

    def can_be_history(self, messages: Sequence[Message]) -> bool:
        """Whether the renderer can write a conversation that goes on after these messages."""
        try:
            self.renderer.build_generation_prompt([*messages, Message(role="user", content="ok")], tools=self.tools)
        except RendererError:
            return False
        return True

    def _result(self, message: Message, reply: Reply) -> StepResult:
        assert self._transcript is not None
        return StepResult(
            reward=reply.reward,
            episode_done=reply.over,
            next_observation=None if reply.over else self._transcript.prompt,
            next_stop=() if reply.over else self._stop,
            metrics=reply.metrics,
            logs=reply.logs,
            said=(message, *reply.messages),
            verdict=reply.verdict,
            ended=reply.ended,
        )


def _noted(reply: Reply, name: str, text: str) -> Reply:
    return Reply(reward=reply.reward, metrics=reply.metrics, logs={**reply.logs, name: text}, ended=reply.ended)
