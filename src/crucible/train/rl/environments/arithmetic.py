"""How does a model that was never taught to chat do sums? As plain text, after a few solved examples."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from crucible.train.rl.dataset import ProblemDataset
from crucible.train.rl.environments.environment import Environment, EnvironmentRequest, Option
from crucible.train.rl.environments.rehearsed import Rehearsal, RehearsedProblem
from crucible.train.rl.environments.splits import of_split
from crucible.train.rl.problem_env import ProblemEnv
from crucible.train.rl.prompt_form import TextForm
from crucible.train.rl.types import RLDataset

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Sum:
    """A question as it stands in the text, up to where the answer begins, and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class _Task:
    """write: from two numbers to a question and its answer; None for numbers that make no question."""

    write: Callable[[int, int], Sum | None]
    examples: tuple[Pair, ...]
    two_digit_examples: tuple[Pair, ...]
    answer: re.Pattern[str] = re.compile(r"\d+")


def _greater(a: int, b: int) -> Sum | None:
    return Sum(question=f"max({a}, {b}) =", answer=str(max(a, b))) if a != b else None


def _smaller(a: int, b: int) -> Sum | None:
    return Sum(question=f"min({a}, {b}) =", answer=str(min(a, b))) if a != b else None


def _add(a: int, b: int) -> Sum:
    return Sum(question=f"{a} + {b} =", answer=str(a + b))


def _subtract(a: int, b: int) -> Sum | None:
    return Sum(question=f"{a} - {b} =", answer=str(a - b)) if a >= b else None


def _multiply(a: int, b: int) -> Sum:
    return Sum(question=f"{a} * {b} =", answer=str(a * b))


def _parity(tens: int, ones: int) -> Sum:
    number = 10 * tens + ones
    return Sum(question=f"{number} is", answer="odd" if number % 2 else "even")


_TASKS: Mapping[str, _Task] = {
    "max": _Task(write=_greater, examples=((3, 8), (9, 4)), two_digit_examples=((38, 71), (94, 25))),
    "min": _Task(write=_smaller, examples=((3, 8), (9, 4)), two_digit_examples=((38, 71), (94, 25))),
    "add": _Task(write=_add, examples=((3, 4), (9, 6), (2, 5)), two_digit_examples=((31, 47), (9, 64), (52, 25))),
    "subtract": _Task(write=_subtract, examples=((8, 3), (9, 2)), two_digit_examples=((83, 31), (95, 24))),
    "multiply": _Task(write=_multiply, examples=((3, 4), (2, 3)), two_digit_examples=((31, 4), (12, 23))),
    "parity": _Task(
        write=_parity,
        examples=((0, 4), (0, 7), (1, 9), (3, 2)),
        two_digit_examples=((14, 4), (20, 7), (31, 9), (53, 2)),
        answer=re.compile("even|odd"),
    ),
}


@dataclass(kw_only=True, eq=False)
class SumEnv(ProblemEnv):
    """One line to be finished: right if it says the answer and nothing else."""

    readable: re.Pattern[str]

    async def check_answer(self, answer: str) -> float:
        return float(answer.strip() == self.reference)

    def check_format(self, answer: str) -> bool:
        return self.readable.fullmatch(answer.strip()) is not None


def sums(variant: str, *, digits: int) -> list[Sum]:
    """Every question of that kind over numbers of up to so many digits (1 or 2), but for the examples."""
    task, top = _TASKS[variant], 10**digits
    shown = {one.question for one in _examples(task, digits)}
    numbers = product(range(top), range(10 if variant == "parity" else top))
    written = (task.write(a, b) for a, b in numbers)
    return [one for one in written if one is not None and one.question not in shown]


def load_arithmetic(variant: str, request: EnvironmentRequest) -> RLDataset:
    """The dataset that `arithmetic:variant` means."""
    task, digits = _TASKS[variant], int(request.options["digits"])
    examples = _examples(task, digits)[: int(request.options["shots"])]
    form = TextForm(
        tokenizer=request.tokenizer,
        before="".join(f"{one.question} {one.answer}\n" for one in examples),
        bos=bool(request.options["bos"]),
    )

    def group(problem: Sum) -> RehearsedProblem:
        return RehearsedProblem(
            make_env=lambda seat: SumEnv(
                form=form,
                seat=seat,
                question=problem.question,
                reference=problem.answer,
                format_coef=float(request.options["format_coef"]),
                readable=task.answer,
            ),
            group_size=request.group_size,
            name=problem.question.removesuffix(" ="),
            tagged=(f"arithmetic/{variant}",),
            known=Rehearsal(right=(f" {problem.answer}",), wrong=(f" {_another(problem.answer)}",)),
        )

    problems = of_split(sums(variant, digits=digits), request.split, text=_question, limit=request.rows)
    return ProblemDataset(
        problems,
        group,
        groups_per_batch=request.groups_per_batch,
        seed=request.seed,
        shuffle=request.split == "train",
    )


def _tokens(variant: str, options: Mapping[str, Any]) -> int:
    """A space, the digits (a token each, with most tokenizers) and the line break."""
    digits = int(options.get("digits", 1))
    return 2 + {"add": digits + 1, "multiply": 2 * digits, "parity": 1}.get(variant, digits)


def _examples(task: _Task, digits: int) -> list[Sum]:
    pairs = task.examples if digits == 1 else task.two_digit_examples
    return [one for a, b in pairs if (one := task.write(a, b)) is not None]


def _question(problem: Sum) -> str:
    return problem.question


def _another(answer: str) -> str:
    return {"even": "odd", "odd": "even"}[answer] if answer.isalpha() else str(int(answer) + 1)


ARITHMETIC = Environment(
    name="arithmetic",
    description="one line of arithmetic after a few solved ones, for models that were never taught to chat",
    load=load_arithmetic,
    variants=tuple(_TASKS),
    max_tokens=4,
    count_tokens=_tokens,
    options={
        "digits": Option(default=1, least=1, most=2, description="of each number: 1, or up to 2"),
        "shots": Option(default=4, least=0, description="solved examples before the question, of those there are"),
        "format_coef": Option(default=0.1, least=0, description="what an answer in the wrong form costs"),
        "bos": Option(default=False, description="whether the prompt begins with the model's BOS token"),
    },
)
