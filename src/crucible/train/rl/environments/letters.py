"""What can a model of a few thousand weights learn from nothing? To copy, compare and reverse characters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from crucible.ports.datum import ModelInput
from crucible.ports.tokenizer import Tokenizer
from crucible.train.messages import Message
from crucible.train.rl.dataset import ProblemDataset
from crucible.train.rl.environments.environment import Environment, EnvironmentRequest, Option
from crucible.train.rl.environments.rehearsed import Rehearsal, RehearsedProblem
from crucible.train.rl.environments.splits import of_split
from crucible.train.rl.problem_env import ProblemEnv
from crucible.train.rl.prompt_form import Answer, PromptForm
from crucible.train.rl.types import Action, RLDataset, StopCondition

ALPHABET = "abcdefgh"
DIGITS = "0123456789"


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """question: characters as they stand in the text; answer: those that are to follow."""

    question: str
    answer: str


def _copy() -> list[Spelling]:
    return [Spelling(question=f"{letter}>", answer=letter) for letter in ALPHABET]


def _max_digit() -> list[Spelling]:
    return [Spelling(question=f"{a}{b}>", answer=max(a, b)) for a, b in product(DIGITS, DIGITS)]


def _reverse() -> list[Spelling]:
    return [
        Spelling(question=f"{''.join(three)}>", answer="".join(three[::-1])) for three in product(ALPHABET, repeat=3)
    ]


_TASKS: Mapping[str, Callable[[], list[Spelling]]] = {"copy": _copy, "max_digit": _max_digit, "reverse": _reverse}

_TOO_FEW_TO_SPLIT = ("copy",)
"""Evaluated on the problems that are trained: the alphabet is all there is."""


@dataclass(frozen=True, kw_only=True)
class FixedLengthForm(PromptForm):
    """Plain text that goes on for `length` characters: their number ends the answer, or, too early, the model's EOS.

    It takes a tokenizer with one token per character, and `max_tokens` of that length: tokens beyond it are not read.
    """

    tokenizer: Tokenizer
    length: int

    def ask(self, question: str) -> tuple[ModelInput, StopCondition]:
        return ModelInput.from_ints(self.tokenizer.encode_ordinary([question])[0]), ()

    def messages(self, question: str) -> Sequence[Message]:
        return (Message(role="user", content=question),)

    def read(self, action: Action) -> Answer:
        known = [token for token in action.tokens if 0 <= token < self.tokenizer.vocab_size]
        text = self.tokenizer.decode(known)[: self.length]
        ended = "done" if len(text) == self.length else "cut"
        return Answer(text=text, ended=ended, message=Message(role="assistant", content=text))


@dataclass(kw_only=True, eq=False)
class SpellingEnv(ProblemEnv):
    """Right character by character: the reward is the share of them that stand in their place."""

    letters: str

    async def check_answer(self, answer: str) -> float:
        places = zip(answer, self.reference, strict=False)
        return sum(given == wanted for given, wanted in places) / len(self.reference)

    def check_format(self, answer: str) -> bool:
        return set(answer) <= set(self.letters)


def load_letters(variant: str, request: EnvironmentRequest) -> RLDataset:
    """The dataset that `letters:variant` means."""
    problems = _TASKS[variant]()
    letters = DIGITS if variant == "max_digit" else ALPHABET
    form = FixedLengthForm(tokenizer=request.tokenizer, length=len(problems[0].answer))

    def group(problem: Spelling) -> RehearsedProblem:
        return RehearsedProblem(
            make_env=lambda seat: SpellingEnv(
                form=form,
                seat=seat,
                question=problem.question,
                reference=problem.answer,
                format_coef=float(request.options["format_coef"]),
                letters=letters,
            ),
            group_size=request.group_size,
            name=problem.question,
            tagged=(f"letters/{variant}",),
            known=Rehearsal(right=(problem.answer,), wrong=("?" * len(problem.answer),)),
        )

    split = problems if variant in _TOO_FEW_TO_SPLIT else of_split(problems, request.split, text=_question)
    return ProblemDataset(
        split[: request.rows],
        group,
        groups_per_batch=request.groups_per_batch,
        seed=request.seed,
        shuffle=request.split == "train",
    )


def _question(problem: Spelling) -> str:
    return problem.question


LETTERS = Environment(
    name="letters",
    description="characters to copy, compare or reverse, for tiny models that begin with random weights",
    load=load_letters,
    variants=tuple(_TASKS),
    max_tokens=1,
    count_tokens=lambda variant, _: len(_TASKS[variant]()[0].answer),
    options={"format_coef": Option(default=0.1, least=0, description="what a character outside the alphabet costs")},
)
