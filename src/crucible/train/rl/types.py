"""What is an environment, and what does a rollout in it leave behind? The field's words (tinker-cookbook's `rl/types`).

Suffixes of names: `_P` problems (groups of a batch), `_G` members of a group, `_T` turns of a trajectory, `_D` datums.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from crucible.ports.datum import ModelInput
from crucible.ports.sampling_client import Provenance, StopReason
from crucible.train.graders.graders import Graders
from crucible.train.graders.verdict import Verdict
from crucible.train.messages import Message

Observation: TypeAlias = ModelInput
"""What the policy is asked to continue."""

StopCondition: TypeAlias = Sequence[str] | Sequence[int]
"""Strings, or token ids, at which the policy's turn ends; it is cut at `max_tokens` otherwise. Empty: the model's own
EOS ids."""

Ended: TypeAlias = Literal["done", "cut", "context", "turns", "malformed", "failed"]
"""How a trajectory ended: the environment said so; its last action was cut at `max_tokens`; the next observation would
not fit the model's context; it took as many turns as are allowed; its last action could not be read; the environment
failed."""


@dataclass(frozen=True, kw_only=True)
class Action:
    """One turn of the policy: T tokens as they were sampled, the stop token included.

    logprobs: T of the sampler, in nats, untempered. seed: of the request that drew it; of a first turn all members of a
    group have the same, and member i's is the i-th completion. provenance: which weights drew it, and how.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop_reason: StopReason
    seed: int
    provenance: Provenance

    def __post_init__(self) -> None:
        assert len(self.tokens) == len(self.logprobs), "each token has a logprob"


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What an environment says to an action.

    reward: of this turn; of no account where `verdict` is no score. verdict: the grader's, where one was asked.
    next_observation: None when the episode is over. metrics: numbers to average over trajectories, by name.
    logs: what a reader of the rollout wants to see (texts and JSON data). said: the messages of this turn, the
    policy's own first, for the tree of rollouts. ended: how, if the episode is over.
    """

    reward: float
    episode_done: bool
    next_observation: Observation | None = None
    next_stop: StopCondition = ()
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    logs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    said: Sequence[Message] = ()
    verdict: Verdict | None = None
    ended: Ended = "done"

    def __post_init__(self) -> None:
        assert self.episode_done == (self.next_observation is None), "an episode that goes on has an observation"


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One turn: what was seen, what was done, what came of it."""

    observation: Observation
    action: Action
    result: StepResult


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a rollout came to nothing. A failed rollout is data: it is counted, shown, and trains nothing.

    kind: the name of the error's class, or `verdict`; what: one line; attempts: how often it was tried.
    """

    kind: str
    what: str
    attempts: int = 1


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """A member's whole episode. first: the messages of the first observation, for the tree of rollouts."""

    transitions: tuple[Transition, ...]
    ended: Ended
    first: Sequence[Message] = ()
    failure: Failure | None = None

    @property
    def verdicts(self) -> list[Verdict]:
        """Of every turn that was graded."""
        return [one.result.verdict for one in self.transitions if one.result.verdict is not None]

    @property
    def reward(self) -> float | None:
        """The sum over turns; None if the rollout failed or a grader gave no score: then there is no reward at all."""
        if self.failure is not None or any(verdict.state != "score" for verdict in self.verdicts):
            return None
        return sum(one.result.reward for one in self.transitions)

    @property
    def tokens(self) -> int:
        """How many were sampled."""
        return sum(len(one.action.tokens) for one in self.transitions)


@dataclass(frozen=True, kw_only=True)
class GroupReward:
    """What a whole group earns a member beside its own reward: for judges that compare members.

    reward: added to the trajectory's; verdict: a grader's, where one was asked (no score: no reward at all).
    """

    reward: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    verdict: Verdict | None = None


@dataclass(frozen=True, kw_only=True)
class TrajectoryGroup:
    """G attempts at one problem.

    index: the group's number in the run's order of groups, from 0. problem: what it was, for records (`row 17`).
    tags: by which metrics are told apart. group_rewards: one per member.
    """

    index: int
    problem: str
    tags: tuple[str, ...]
    trajectories: tuple[Trajectory, ...]
    group_rewards: tuple[GroupReward, ...]

    def __post_init__(self) -> None:
        assert len(self.trajectories) == len(self.group_rewards), "each member has a group reward"

    @property
    def rewards(self) -> list[float | None]:
        """Each member's total; None where there is none: it is masked from the baseline and trains nothing."""
        return [_total(one, group) for one, group in zip(self.trajectories, self.group_rewards, strict=True)]


def _total(trajectory: Trajectory, group: GroupReward) -> float | None:
    own = trajectory.reward
    graded = group.verdict is None or group.verdict.state == "score"
    return own + group.reward if own is not None and graded else None


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a group's environments are given when they are made.

    seed: the group's own, a function of the run's seed and the group's index: all chance in the environments comes
    from it, so that they can be made again. graders: who grades. place: where in the run they stand, for the record
    of verdicts (`step/group`); an environment adds its member and turn.
    """

    seed: int
    graders: Graders
    place: str


class Env(ABC):
    """One episode, for one member. Stateful and used once; all its chance comes from its surroundings' seed, so that
    the same actions lead to the same observations and rewards."""

    @abstractmethod
    async def initial_observation(self) -> tuple[Observation, StopCondition]:
        """What the policy sees first, and where its turn ends."""

    @abstractmethod
    async def step(self, action: Action) -> StepResult:
        """What the action leads to. Reading the action must not fail: malformed text is a result, with a reason.

        Raises:
            Exception: if the environment itself fails; the rollout is then data with a `Failure`.
        """

    async def close(self) -> None:  # noqa: B027  (most environments hold nothing)
        """Free what it holds; called once, whatever became of the episode."""

    @property
    def first_messages(self) -> Sequence[Message]:
        """The messages of the first observation, for the tree of rollouts; none where there are no messages."""
        return ()


class EnvGroupBuilder(ABC):
    """Makes the environments of one group: several attempts at one problem, or several players of one game."""

    @abstractmethod
    async def make_envs(self, surroundings: Surroundings) -> Sequence[Env]:
        """One per member, in the members' order."""

    async def compute_group_rewards(
        self, trajectories: Sequence[Trajectory], surroundings: Surroundings
    ) -> Sequence[GroupReward]:
        """What the group as a whole earns each member; nothing, unless a subclass says otherwise."""
        del surroundings
        return [GroupReward() for _ in trajectories]

    @property
    def problem(self) -> str:
        """What it is, in a few words for records."""
        return type(self).__name__

    @property
    def tags(self) -> tuple[str, ...]:
        """By which metrics are told apart: `gsm8k`, `arithmetic/add`."""
        return ()


class RLDataset(ABC):
    """The problems of a run, in an order that is a function of the seed. Pure: the same index gives the same batch."""

    @abstractmethod
    def __len__(self) -> int:
        """Batches of one epoch."""

    @abstractmethod
    def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]:
        """The groups of batch `index`, counted over all epochs."""

    def fingerprint(self) -> str:
        """A hash of the problems, for the check that a resumed run sees the same ones; "" where there is none."""
        return ""
