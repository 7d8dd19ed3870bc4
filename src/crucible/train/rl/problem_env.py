"""What is an environment of a single turn? A question, an answer, and what the answer is worth."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crucible.train.graders.verdict import Verdict
from crucible.train.messages import Message
from crucible.train.rl.prompt_form import PromptForm
from crucible.train.rl.seat import Seat
from crucible.train.rl.types import Action, Env, EnvGroupBuilder, Observation, StepResult, StopCondition, Surroundings


@dataclass(kw_only=True, eq=False)
class ProblemEnv(Env):
    """A question that is answered once. Subclass it (as a dataclass, where the problem has data of its own), say what
    `check_answer` says, and, where the form of the answer matters, `check_format`.

    The reward is `format_coef * (format - 1) + correct` (tinker-cookbook's): a right answer in the right form earns 1,
    one in the wrong form `1 - format_coef`, a wrong one in the right form 0. Format is 1 only for an answer that is
    whole, neither cut nor malformed.

    form: how the question is put; seat: which member of which group this is; reference: the right answer, for readers.
    """

    form: PromptForm
    seat: Seat
    question: str
    reference: str = ""
    format_coef: float = 0.1

    @abstractmethod
    async def check_answer(self, answer: str) -> float | Verdict:
        """What the answer is worth: 1 (or True) if right, 0 if wrong; or a grader's verdict on it (`self.grade`)."""

    def check_format(self, answer: str) -> bool:  # noqa: ARG002  (what a subclass judges)
        """Whether the answer has the form that was asked for."""
        return True

    async def grade(self, grader: str, item: Mapping[str, Any]) -> Verdict:
        """The verdict of the grader of that name on `item` (JSON data)."""
        return await self.seat.grade(grader, item)

    @property
    def first_messages(self) -> Sequence[Message]:
        return self.form.messages(self.question)

    async def initial_observation(self) -> tuple[Observation, StopCondition]:
        return self.form.ask(self.question)

    async def step(self, action: Action) -> StepResult:
        answer = self.form.read(action)
        outcome = await self.check_answer(answer.text)
        verdict = outcome if isinstance(outcome, Verdict) else None
        correct = outcome.score if isinstance(outcome, Verdict) else float(outcome)
        shaped = float(answer.ended == "done" and self.check_format(answer.text))
        logs = {"answer": answer.text, **({"reference": self.reference} if self.reference else {})}
        return StepResult(
            reward=self.format_coef * (shaped - 1) + (correct or 0.0),  # of no account where the verdict has no score
            episode_done=True,
            metrics={"format": shaped, **({} if correct is None else {"correct": correct})},
            logs=logs,
            said=(answer.message,),
            verdict=verdict,
            ended=answer.ended,
        )


@dataclass(frozen=True, kw_only=True)
class ProblemGroupBuilder(EnvGroupBuilder):
    """`group_size` attempts at one problem.

    make_env: the environment for a seat; called anew for each member, and again for a retry.
    name: what the problem is, for records (`row 17`). tags: by which metrics are told apart.
    """

    make_env: Callable[[Seat], Env]
    group_size: int
    name: str = "problem"
    tagged: tuple[str, ...] = ()

    async def make_envs(self, surroundings: Surroundings) -> Sequence[Env]:
        return [self.make_env(Seat(surroundings=surroundings, member=member)) for member in range(self.group_size)]

    @property
    def problem(self) -> str:
        return self.name

    @property
    def tags(self) -> tuple[str, ...]:
        return self.tagged
