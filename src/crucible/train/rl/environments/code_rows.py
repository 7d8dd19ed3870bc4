"""Which programming problems are there? Rows of a task and its tests, which a sandboxed process runs."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from crucible.errors import Problem
from crucible.ports.dataset_store import Row
from crucible.train.graders.sandbox import sandbox_problems
from crucible.train.graders.verdict import Verdict
from crucible.train.rl.dataset import ProblemDataset
from crucible.train.rl.environments.environment import Environment, EnvironmentRequest, Option
from crucible.train.rl.environments.rehearsed import Rehearsal, RehearsedProblem
from crucible.train.rl.environments.rows import read_problems, text_in
from crucible.train.rl.problem_env import ProblemEnv
from crucible.train.rl.prompt_form import ChatForm
from crucible.train.rl.types import RLDataset

PROMPTS = ("prompt", "question", "problem")
TESTS = ("test", "tests")
SOLUTIONS = ("canonical_solution", "solution")

_FUNCTION = "Complete this Python function. Reply with the whole function in one ```python block.\n\n```python\n{}\n```"
_PROGRAM = "{}\n\nReply with a Python program that reads its input from standard input, in one ```python block."
_DEFINITION = "{}\n\nReply with the Python code in one ```python block."


@dataclass(frozen=True, kw_only=True)
class CodeProblem:
    """A task and what its solution is held against.

    function: the name of the function that the prompt begins, as in HumanEval; "" where the prompt is prose.
    tests: Python that is run after the solution; or cases: pairs of standard input and expected output.
    solution: one that is right, "" where none is known.
    """

    prompt: str
    name: str
    function: str = ""
    tests: str = ""
    cases: tuple[Mapping[str, str], ...] = ()
    solution: str = ""

    @property
    def question(self) -> str:
        """What the model is asked."""
        if self.function:
            return _FUNCTION.format(self.prompt.rstrip())
        return (_PROGRAM if self.cases else _DEFINITION).format(self.prompt.strip())

    @property
    def reference(self) -> str:
        """A whole program that is right."""
        return f"{self.prompt}{self.solution}" if self.function else self.solution


def read_row(row: Row, name: str) -> CodeProblem | Problem:
    """The problem of a row, or what is wrong with it.

    A row has a prompt, and either tests (with HumanEval's `entry_point`, tests that define `check(candidate)`) or
    `cases`, a list of `{"stdin": ..., "expected": ...}`.
    """
    prompt, tests, function = text_in(row, PROMPTS), text_in(row, TESTS), text_in(row, ("entry_point",)) or ""
    cases = _cases(row.get("cases"))
    if prompt is None:
        return Problem(what=f"the row has no text in {' or '.join(PROMPTS)}")
    if (tests is None) == (cases is None):
        what = "the row has tests or cases, one of them" if tests else f"the row has no {' or '.join(TESTS)}, nor cases"
        return Problem(what=what, fix='Cases are [{"stdin": "...", "expected": "..."}, ...]')
    called = f"\ncheck({function})\n" if function and tests else ""
    return CodeProblem(
        prompt=prompt,
        name=text_in(row, ("task_id",)) or name,
        function=function,
        tests=(tests or "") + called,
        cases=cases or (),
        solution=text_in(row, SOLUTIONS) or "",
    )


def program_in(text: str, problem: CodeProblem) -> str | None:
    """The program that a model's text answers with: its last fenced block, or the last that has the function; None if
    it has no block.

    Before a function stands what the prompt has before its own (imports, other functions): the prompt is kept, and
    the model's function replaces the one it begins. A block of indented lines goes on where the prompt ends.
    """
    blocks = fenced_blocks(text)
    if not blocks:
        return None
    if not problem.function:
        return blocks[-1]
    defines = re.compile(rf"^\s*(async\s+)?def\s+{re.escape(problem.function)}\b", re.MULTILINE)
    block = next((block for block in reversed(blocks) if defines.search(block)), blocks[-1])
    if not defines.search(block) and block[:1] in (" ", "\t"):
        return problem.prompt + block
    return f"{problem.prompt.rstrip()}\n    pass\n\n\n{block}"


def fenced_blocks(text: str) -> list[str]:
    """What stands between lines of ```, whatever language the first of them names; one that is not closed is none."""
    blocks: list[str] = []
    inside: list[str] | None = None
    for line in text.splitlines(keepends=True):
        if inside is None:
            inside = [] if line.startswith("```") else None
        elif line.rstrip() == "```":
            blocks.append("".join(inside))
            inside = None
        else:
            inside.append(line)
    return blocks


@dataclass(kw_only=True, eq=False)
class CodeEnv(ProblemEnv):
    """A program to write. An answer without a fenced block is wrong, whatever else the text says."""

    problem: CodeProblem
    limits: Mapping[str, Any]

    async def check_answer(self, answer: str) -> float | Verdict:
        program = program_in(answer, self.problem)
        if program is None:
            return 0.0
        held: dict[str, Any] = (
            {"cases": [dict(case) for case in self.problem.cases]}
            if self.problem.cases
            else {"tests": self.problem.tests}
        )
        return await self.grade("code", {"code": program, **held, **self.limits})

    def check_format(self, answer: str) -> bool:
        return program_in(answer, self.problem) is not None


def load_code(variant: str, request: EnvironmentRequest) -> RLDataset:
    """The rows of the option `dataset` as groups."""
    del variant
    assert request.renderer is not None, "the registry has asked for a renderer"
    options, form = request.options, ChatForm(renderer=request.renderer)
    limits = {name: options[name] for name in ("sandbox", "cpu_seconds", "memory_mib", "partial")}

    def group(problem: CodeProblem) -> RehearsedProblem:
        return RehearsedProblem(
            make_env=lambda seat: CodeEnv(
                form=form,
                seat=seat,
                question=problem.question,
                reference=problem.reference,
                format_coef=float(options["format_coef"]),
                problem=problem,
                limits=limits,
            ),
            group_size=request.group_size,
            name=problem.name,
            tagged=("code",),
            known=Rehearsal(
                right=(_fenced(problem.reference),) if problem.solution else None,
                wrong=(_fenced(f"def {problem.function or 'solve'}(*given):\n    return None\n"),),
            ),
        )

    problems = read_problems(
        request,
        read_row,
        dataset=str(options["dataset"]),
        split=str(options["split"]),
        eval_split=str(options["eval_split"]),
        text=_prompt,
    )
    return ProblemDataset(
        problems,
        group,
        groups_per_batch=request.groups_per_batch,
        seed=request.seed,
        shuffle=request.split == "train",
    )


def _cases(value: object) -> tuple[Mapping[str, str], ...] | None:
    """The pairs of a row's `cases`; None if it has none, or they are none."""
    if not isinstance(value, list | tuple) or not value:
        return None
    cases: list[Mapping[str, str]] = []
    for case in cast("list[object]", value):
        if not isinstance(case, Mapping):
            return None
        pair = cast("Mapping[str, object]", case)
        stdin, expected = pair.get("stdin"), pair.get("expected")
        if not isinstance(stdin, str) or not isinstance(expected, str):
            return None
        cases.append({"stdin": stdin, "expected": expected})
    return tuple(cases)


def _prompt(problem: CodeProblem) -> str:
    return problem.prompt


def _fenced(program: str) -> str:
    return f"```python\n{program.rstrip()}\n```"


def _problems(variant: str, options: Mapping[str, Any]) -> Iterable[Problem]:
    del variant
    return sandbox_problems() if options["sandbox"] == "full" else ()


CODE = Environment(
    name="code",
    description="Python functions to write, held against their tests in a sandbox: HumanEval's 164 (meant as a test)",
    load=load_code,
    needs_renderer=True,
    needs_rows=True,
    graders=("code",),
    max_tokens=384,
    check=_problems,
    options={
        "dataset": Option(default="human_eval", description="what the dataset store is asked for"),
        "split": Option(default="train", description="the store's split to train on"),
        "eval_split": Option(default="", description="the store's split to evaluate on; empty: a tenth of `split`"),
        "sandbox": Option(
            default="full",
            choices=("full", "limits"),
            description="full: no network, and limits; limits: limits alone, where the machine can do no more",
        ),
        "cpu_seconds": Option(default=2.0, least=0.1, description="of CPU time that a program may use"),
        "memory_mib": Option(default=512, least=16, description="that a program may use"),
        "partial": Option(default=False, description="whether a share of the cases earns a share of the reward"),
        "format_coef": Option(default=0.1, least=0, description="what an answer without a block of code costs"),
    },
)
