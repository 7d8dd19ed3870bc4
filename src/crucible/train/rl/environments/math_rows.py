"""Which mathematics problems are there? Rows of a question and its answer, graded by value and not by spelling."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from crucible.errors import Problem
from crucible.ports.dataset_store import Row
from crucible.train.graders.answers import extract_boxed
from crucible.train.graders.verdict import Verdict
from crucible.train.messages import Message
from crucible.train.rl.dataset import ProblemDataset
from crucible.train.rl.environments.environment import Environment, EnvironmentRequest, Option
from crucible.train.rl.environments.rehearsed import Rehearsal, RehearsedProblem
from crucible.train.rl.environments.rows import read_problems, text_in
from crucible.train.rl.problem_env import ProblemEnv
from crucible.train.rl.prompt_form import ChatForm
from crucible.train.rl.types import RLDataset

QUESTIONS = ("question", "problem", "prompt")
ANSWERS = ("answer", "solution")

_HASHES = "####"


@dataclass(frozen=True, kw_only=True)
class AnswerStyle:
    """How the model is asked to mark its answer. write: the mark, with `{}` for the answer."""

    ask: str
    write: str
    example: str


STYLES: Mapping[str, AnswerStyle] = {
    "boxed": AnswerStyle(
        ask="Write your final answer in \\boxed{}.",
        write="\\boxed{{{}}}",
        example="3 boxes of 4 pens hold 3 * 4 = 12 pens. 5 are taken out: 12 - 5 = 7. \\boxed{7}",
    ),
    "hash": AnswerStyle(
        ask="End with your final answer on a line of its own, after ####.",
        write="\n#### {}",
        example="3 boxes of 4 pens hold 3 * 4 = 12 pens. 5 are taken out: 12 - 5 = 7.\n#### 7",
    ),
}
_EXAMPLE = "There are 3 boxes with 4 pens each. Tom takes 5 pens out. How many are left in the boxes?"


@dataclass(frozen=True, kw_only=True)
class MathProblem:
    """A question and its answer, the working left out. name: which row it was."""

    question: str
    reference: str
    name: str


def read_row(row: Row, name: str) -> MathProblem | Problem:
    """The problem of a row, or what is wrong with it."""
    question, answer = text_in(row, QUESTIONS), text_in(row, ANSWERS)
    missing = [
        f"no text in {' or '.join(columns)}"
        for columns, text in ((QUESTIONS, question), (ANSWERS, answer))
        if text is None
    ]
    if question is None or answer is None:
        return Problem(what=f"the row has {' and '.join(missing)}")
    return MathProblem(question=question, reference=final_answer(answer), name=name)


def final_answer(solution: str) -> str:
    """The answer in a worked solution: what stands after its last `####` (GSM8K), or in its last `\\boxed{}` (MATH);
    a text with neither is the answer itself."""
    hashed = _after_hashes(solution)
    return hashed.replace(",", "") if hashed is not None else extract_boxed(solution) or solution.strip()


def marked_answer(text: str, style: str) -> str | None:
    """What a model's text marks as its answer in that style; None if it marks none."""
    return extract_boxed(text) if style == "boxed" else _after_hashes(text)


def _after_hashes(text: str) -> str | None:
    """What follows #### on the last line that begins so and says anything."""
    marked = [line[len(_HASHES) :].strip() for line in text.splitlines() if line.startswith(_HASHES)]
    return next((answer for answer in reversed(marked) if answer and not answer.startswith("#")), None)


@dataclass(kw_only=True, eq=False)
class MathEnv(ProblemEnv):
    """A question to work out. An answer that is not marked as asked for is wrong, whatever else the text says."""

    style: str
    grader: str

    async def check_answer(self, answer: str) -> float | Verdict:
        found = marked_answer(answer, self.style)
        if found is None:
            return 0.0
        return await self.grade(self.grader, {"reference": self.reference, "prediction": found})

    def check_format(self, answer: str) -> bool:
        return marked_answer(answer, self.style) is not None


def load_math(name: str, request: EnvironmentRequest) -> RLDataset:
    """The rows of the option `dataset` as groups, tagged `name`."""
    assert request.renderer is not None, "the registry has asked for a renderer"
    options = request.options
    style = str(options["answer_style"])
    written = STYLES[style]
    solved = (
        Message(role="user", content=f"{_EXAMPLE} {written.ask}"),
        Message(role="assistant", content=written.example),
    )
    form = ChatForm(renderer=request.renderer, before=solved if options["example"] else ())

    def group(problem: MathProblem) -> RehearsedProblem:
        wrong = "-7919" if problem.reference != "-7919" else "7919"
        return RehearsedProblem(
            make_env=lambda seat: MathEnv(
                form=form,
                seat=seat,
                question=f"{problem.question} {written.ask}",
                reference=problem.reference,
                format_coef=float(options["format_coef"]),
                style=style,
                grader=str(options["grader"]),
            ),
            group_size=request.group_size,
            name=problem.name,
            tagged=(name,),
            known=Rehearsal(
                right=(f"So the answer is {written.write.format(problem.reference)}",),
                wrong=(f"So the answer is {written.write.format(wrong)}",),
            ),
        )

    problems = read_problems(
        request,
        read_row,
        dataset=str(options["dataset"]),
        split=str(options["split"]),
        eval_split=str(options["eval_split"]),
        text=_question,
    )
    return ProblemDataset(
        problems,
        group,
        groups_per_batch=request.groups_per_batch,
        seed=request.seed,
        shuffle=request.split == "train",
    )


def _question(problem: MathProblem) -> str:
    return problem.question


def _load_gsm8k(variant: str, request: EnvironmentRequest) -> RLDataset:
    del variant
    return load_math("gsm8k", request)


def _load_math(variant: str, request: EnvironmentRequest) -> RLDataset:
    del variant
    return load_math("math", request)


GSM8K = Environment(
    name="gsm8k",
    description="grade-school word problems: the 1,319 rows of GSM8K's test file, one tenth of them held out",
    load=_load_gsm8k,
    needs_renderer=True,
    needs_rows=True,
    graders=("math",),
    max_tokens=256,
    options={
        "dataset": Option(default="gsm8k", description="what the dataset store is asked for"),
        "split": Option(default="train", description="the store's split to train on"),
        "eval_split": Option(default="", description="the store's split to evaluate on; empty: a tenth of `split`"),
        "answer_style": Option(default="boxed", choices=tuple(STYLES), description="how the answer is to be marked"),
        "example": Option(default=True, description="whether a solved problem stands before the question"),
        "grader": Option(default="math", choices=("math", "number", "exact"), description="who compares the answers"),
        "format_coef": Option(default=0.1, least=0, description="what an answer that is not marked costs"),
    },
)

MATH = replace(
    GSM8K,
    name="math",
    description="mathematics problems in rows of your own: a question and an answer, worked out or not",
    load=_load_math,
    max_tokens=512,
)
