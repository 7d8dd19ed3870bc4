"""How do reasoning-gym's tasks become groups? Questions made one by one from a seed, graded by the task's own scorer.

The library (Open-Thought, Apache-2.0) has a hundred generators of puzzles. Its scorers parse, and some evaluate, what
the model wrote: they run as a grader, in a process that can be ended.
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any, cast

import msgspec

from crucible.errors import DataError, Problem
from crucible.train.graders.verdict import Verdict
from crucible.train.rl.dataset import ProblemDataset
from crucible.train.rl.environments.environment import Environment, EnvironmentRequest, Option, Split
from crucible.train.rl.environments.rehearsed import Rehearsal, RehearsedProblem
from crucible.train.rl.environments.splits import in_split, mark_of
from crucible.train.rl.problem_env import ProblemEnv
from crucible.train.rl.prompt_form import ChatForm
from crucible.train.rl.types import RLDataset
from crucible.train.seeding import derive_seed

GRADER = "reasoning_gym"
"""`grade`, by its name in the graders' table."""

_ASK = "{}\n\nWrite your final answer between <answer> and </answer>."
_OPEN, _CLOSE = "<answer>", "</answer>"
_TRIES = 200
"""Of drawing a question of the split: one in ten is held out, so that so many fail once in a billion."""
_ROWS = 500
"""Problems of an epoch where no limit is given: the library's own default."""
UNREPEATABLE = ("isomorphic_strings", "knight_swap", "polynomial_multiplication", "ransom_note", "word_ladder")
"""Tasks of 0.1.25 that go through sets of texts when they make a question or its answer: those that differed between
two processes with hash seeds of their own."""
_CLUE = 0.25
"""The most that nonsense may earn: many scorers give some hundredths, one gives a fifth, for any answer at all."""


@dataclass(frozen=True, kw_only=True)
class Puzzle:
    """One question, by what it is made from: data of the library's `version`.

    settings: of the task, as JSON. seed: of the generator; place: which of its questions.
    """

    task: str
    settings: str
    seed: int
    split: Split
    rows: int
    place: int
    version: str

    def entry(self) -> tuple[int, Mapping[str, Any]]:
        """The question with what its scorer needs, and the seed it came from: the first of the split among those of
        this place that a series of seeds gives.

        Raises:
            DataError: if none is of the split.
        """
        for tried in range(_TRIES):
            seed = derive_seed(self.seed, "reasoning-gym", tried)
            entry = _generator(self.task, self.settings, seed, self.rows)[self.place]
            if in_split(mark_of(str(entry["question"])), self.split):
                return seed, entry
        raise DataError.of(f"the task has too few questions to hold some out ({self.split})", given=self.task)


def _library() -> Any:
    import reasoning_gym  # pyright: ignore[reportMissingTypeStubs]  (it ships no types)

    return cast(Any, reasoning_gym)


@lru_cache(maxsize=64)
def _generator(task: str, settings: str, seed: int, rows: int) -> Any:
    return _library().create_dataset(task, seed=seed, size=rows, **msgspec.json.decode(settings))


def grade(item: Mapping[str, Any]) -> Verdict:
    """A grader: what the task's own scorer says of an answer, from 0 to 1.

    A scorer that cannot read an answer raises, with some tasks. It is a wrong answer where the scorer does read the
    right one; otherwise it is the scorer that is broken.
    """
    puzzles = _generator(item["task"], item["settings"], item["seed"], item["rows"])
    entry = puzzles[item["place"]]
    try:
        return Verdict.of(float(puzzles.score_answer(answer=item["answer"], entry=entry)))
    except Exception as error:
        if entry["answer"] is None or puzzles.score_answer(answer=entry["answer"], entry=entry) != 1.0:
            raise
        return Verdict.of(0.0, f"the scorer cannot read it: {type(error).__name__}")


def preload() -> None:
    """Import what `grade` needs, once for all the graders' processes, before they are made."""
    _library()


@dataclass(kw_only=True, eq=False)
class PuzzleEnv(ProblemEnv):
    """A question of reasoning-gym. An answer outside its tags is wrong, whatever else the text says."""

    puzzle: Puzzle
    seed: int

    async def check_answer(self, answer: str) -> float | Verdict:
        found = answer_in(answer)
        if found is None:
            return 0.0
        puzzle = self.puzzle
        item = {"task": puzzle.task, "settings": puzzle.settings, "rows": puzzle.rows, "place": puzzle.place}
        return await self.grade(GRADER, {**item, "seed": self.seed, "answer": found})

    def check_format(self, answer: str) -> bool:
        return answer_in(answer) is not None


def answer_in(text: str) -> str | None:
    """What stands in the last pair of tags; None if there is none."""
    end = text.rfind(_CLOSE)
    begin = text.rfind(_OPEN, 0, max(end, 0))
    return None if begin < 0 else text[begin + len(_OPEN) : end].strip()


def tasks() -> Sequence[str]:
    """The names of all tasks, but for the one that mixes others."""
    return sorted(name for name in _library().factory.DATASETS if name != "composite")


def task_options(task: str) -> Mapping[str, Option]:
    """The task's own settings that are single values."""
    _, settings = _library().factory.DATASETS[task]
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(settings)}
    return {
        name: Option(default=default, description=f"reasoning-gym's setting of {task}")
        for name, default in defaults.items()
        if name not in ("seed", "size") and type(default) in (int, float, str, bool)
    }


def load_reasoning_gym(task: str, request: EnvironmentRequest) -> RLDataset:
    """`rows` questions of one task as groups; those held out are drawn from the same seed, whatever the run's."""
    assert request.renderer is not None, "the registry has asked for a renderer"
    form, rows = ChatForm(renderer=request.renderer), request.rows or _ROWS
    settings = _settings(task, request.options)
    seed = request.seed if request.split == "train" else 0

    def group(puzzle: Puzzle) -> RehearsedProblem:
        drawn, entry = puzzle.entry()
        reference = entry["answer"]
        return RehearsedProblem(
            make_env=lambda seat: PuzzleEnv(
                form=form,
                seat=seat,
                question=_ASK.format(entry["question"]),
                reference="" if reference is None else str(reference),
                format_coef=float(request.options["format_coef"]),
                puzzle=puzzle,
                seed=drawn,
            ),
            group_size=request.group_size,
            name=f"{task} {puzzle.place + 1}",
            tagged=(f"reasoning_gym/{task}",),
            known=Rehearsal(
                right=None if reference is None else (f"<answer>{reference}</answer>",),
                wrong=("<answer>no idea</answer>",),
                worst=_CLUE,
            ),
        )

    release = version("reasoning-gym")
    puzzles = [
        Puzzle(task=task, settings=settings, seed=seed, split=request.split, rows=rows, place=place, version=release)
        for place in range(rows)
    ]
    return ProblemDataset(
        puzzles,
        group,
        groups_per_batch=request.groups_per_batch,
        seed=request.seed,
        shuffle=request.split == "train",
    )


def _settings(task: str, options: Mapping[str, Any]) -> str:
    given = {name: options[name] for name in task_options(task)}
    return msgspec.json.encode(given, order="sorted").decode()


def _problems(task: str, options: Mapping[str, Any]) -> Iterator[Problem]:
    """A task that is another in the next process, or settings that it refuses."""
    if task in UNREPEATABLE and sys.flags.hash_randomization:
        yield Problem(
            what="the task's questions hang on Python's hash seed: a continued run would see others",
            where="env",
            given=f"reasoning_gym:{task}",
            fix="Start Python with PYTHONHASHSEED=0, or choose another task",
        )
    settings = _settings(task, options)
    try:
        _generator(task, settings, 0, 1)
    except (AssertionError, ValueError, TypeError) as error:
        what = f"reasoning-gym refuses these settings of {task}: {error}"
        yield Problem(what=what, where="env_options", given=settings)


REASONING_GYM = Environment(
    name="reasoning_gym",
    description="a hundred kinds of puzzles, made as they are needed and scored by the library's own rules",
    load=load_reasoning_gym,
    list_variants=tasks,
    example="chain_sum",
    needs_renderer=True,
    graders=(GRADER,),
    extra="environments",
    module="reasoning_gym",
    max_tokens=256,
    options={"format_coef": Option(default=0.1, least=0, description="what an answer outside its tags costs")},
    list_options=task_options,
    check=_problems,
)
