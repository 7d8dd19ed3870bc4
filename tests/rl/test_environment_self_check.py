"""Is an environment whose grader is broken found before it costs anything, and a sound one passed?"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from asking import request
from playing import CHAT, TOKENIZER, Echo, Recorded

from crucible.errors import ConfigError
from crucible.train.graders.graders import Graders
from crucible.train.graders.pool import GraderPool
from crucible.train.graders.verdict import Verdict
from crucible.train.messages import Message
from crucible.train.rl.dataset import ProblemDataset
from crucible.train.rl.environments.registry import load_environment
from crucible.train.rl.environments.self_check import CheckedProblem, failures, self_check
from crucible.train.rl.problem_env import ProblemGroupBuilder

HUMAN = {
    "prompt": "def one():\n",
    "entry_point": "one",
    "canonical_solution": "    return 1\n",
    "test": "def check(candidate):\n    assert candidate() == 1\n",
}
SPECS: dict[str, dict[str, Any]] = {
    "arithmetic:max": {},
    "arithmetic:parity": {"digits": 2, "shots": 0},
    "letters:reverse": {},
    "guess_number": {"turns": 2},
    "gsm8k": {"data": {"gsm8k": [{"question": "2?", "answer": "#### 2"}]}, "eval_split": "train"},
    "math": {
        "data": {"m": [{"problem": "?", "solution": "\\boxed{\\frac12}"}]},
        "dataset": "m",
        "eval_split": "train",
        "answer_style": "hash",
    },
    "code": {"data": {"human_eval": [HUMAN]}, "eval_split": "train", "sandbox": "limits"},
    "reasoning_gym:chain_sum": {"max_terms": 3},
}


@pytest.fixture(scope="module")
def graders() -> Iterator[GraderPool]:
    with GraderPool(workers=1) as pool:
        yield pool


async def checked(spec: str, graders: Graders, problems: int = 2, **given: Any) -> Sequence[CheckedProblem]:
    dataset = load_environment(spec, request(rows=2, **given))
    return await self_check(dataset, tokenizer=TOKENIZER, graders=graders, problems=problems)


@pytest.mark.parametrize("spec", SPECS)
async def test_every_built_in_environment_pays_its_own_answer_and_no_wrong_one(spec: str, graders: GraderPool) -> None:
    found = await checked(spec, graders, **SPECS[spec])
    assert [(one.state, one.what) for one in found] == [("passed", "")] * 2


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (Verdict.of(0.0, "1 is not 1"), "the right answer .* earned 0, not 1 .1 is not 1"),
        (Verdict.of(1.0), "the wrong answer .* earned 1, not at most 0"),
        (Verdict.invalid("it died"), "the right answer .* has no score: invalid .it died"),
        (Verdict.timed_out("10 s"), "has no score: timed_out .10 s"),
    ],
)
async def test_a_grader_that_cannot_tell_right_from_wrong_is_found(verdict: Verdict, said: str) -> None:
    found = await checked("gsm8k", Recorded(verdicts={"math": verdict}), **SPECS["gsm8k"])
    assert len(failures(found)) == 2
    for one in found:
        assert re.search(said, one.what)


async def test_an_environment_that_raises_is_a_finding_with_the_errors_name() -> None:
    [one, _] = await checked("gsm8k", Recorded(), **SPECS["gsm8k"])
    assert (one.state, "KeyError: 'math'" in one.what) == ("failed", True)


async def test_a_mistake_of_the_users_own_is_raised_as_such(
    graders: GraderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crucible.train.graders.registry.GRADERS", {})
    with pytest.raises(ConfigError, match="no such grader"):
        await checked("gsm8k", graders, **SPECS["gsm8k"])


async def test_a_problem_whose_answer_nobody_knows_must_begin_at_least(graders: GraderPool) -> None:
    [one, _] = await checked("textarena:TicTacToe-v0", graders)
    assert (one.state, one.what) == ("unchecked", "it begins; no answer to it is known")


async def test_as_many_problems_are_checked_as_asked_for_though_there_are_fewer(graders: GraderPool) -> None:
    assert len(await checked("arithmetic", graders, problems=5)) == 5


@dataclass(kw_only=True, eq=False)
class Held(Echo):
    """Holds something, and may fail at its first word."""

    closed: list[int]
    sound: bool

    async def opening(self) -> Sequence[Message]:
        if not self.sound:
            raise OSError("no room")
        return await super().opening()

    async def close(self) -> None:
        self.closed.append(self.seat.member)


@pytest.mark.parametrize(("sound", "state"), [(True, "unchecked"), (False, "failed")])
async def test_every_environment_that_was_made_is_closed(sound: bool, state: str) -> None:
    closed: list[int] = []
    builder = ProblemGroupBuilder(
        make_env=lambda seat: Held(renderer=CHAT, seat=seat, closed=closed, sound=sound), group_size=2
    )
    dataset = ProblemDataset(["one"], lambda _: builder, groups_per_batch=1, seed=0)
    [one] = await self_check(dataset, tokenizer=TOKENIZER, graders=Recorded(), problems=1)
    assert (one.state, sorted(closed)) == (state, [0, 1])
