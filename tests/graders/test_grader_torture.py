"""Does the pool outlive its graders? Each does its worst: the verdict says what, and the next item is graded."""

import asyncio
import os
import time
from pathlib import Path

import pytest
from watching import comes_true, graders_of_ours, open_files, processes_with

from crucible.train.graders.limits import GraderLimits
from crucible.train.graders.pool import GraderPool
from crucible.train.graders.verdict import Verdict

TOWER = "10^{10^{10^{10^{10}}}}"
CASES = [
    ("hang", Verdict.timed_out("used more than 1 s of CPU time")),
    ("allocate_10_gb", Verdict.invalid("ran out of memory (limit 512 MiB)")),
    ("crash", Verdict.invalid("the grader's process was killed by SIGSEGV")),
    ("leave", Verdict.invalid("the grader's process ended with exit code 0")),
    ("raise_unprintable", Verdict.invalid("Unprintable, which cannot be printed")),
    ("return_odd", Verdict.invalid("the grader returned a Odd, which is no score")),
    ("return_nan", Verdict.invalid("the grader returned nan")),
    ("forge_answers", Verdict.invalid("the grader's process sent what is no answer")),
    ("answer_twice", Verdict.of(1.0)),
    ("kill_keeper", Verdict.invalid("the process that keeps the graders was killed by SIGKILL", repeatable=False)),
    ("spawn_doubling", Verdict.invalid("started more than 32 processes", repeatable=False)),
]


@pytest.mark.parametrize(("grader", "verdict"), CASES)
async def test_a_grader_at_its_worst_gets_its_verdict_and_the_next_item_is_graded(
    pool: GraderPool, grader: str, verdict: Verdict
) -> None:
    assert await pool.grade(grader, {}, place="") == verdict
    assert await pool.grade("seven", {"value": 9}, place="") == Verdict.of(2.0)


async def test_a_megabyte_of_output_is_dropped_and_of_a_megabyte_of_detail_a_line_is_kept(pool: GraderPool) -> None:
    verdict = await pool.grade("write_much", {}, place="")
    assert verdict.score == 0.5
    assert verdict.detail.startswith("zzz")
    assert len(verdict.detail) == 400


async def test_a_grader_that_waits_is_ended_by_the_clock_and_its_verdict_is_not_repeatable() -> None:
    with GraderPool(workers=1, limits=GraderLimits(cpu_seconds=0.5, wall_seconds=1.0)) as pool:
        verdict = await pool.grade("wait_for_ever", {}, place="")
    assert (verdict.state, verdict.repeatable) == ("timed_out", False)


@pytest.mark.parametrize(
    "answer",
    [TOWER, f"${TOWER}$", "9**9**9**9", "(" * 1500 + "1" + ")" * 1500, r"\frac" * 2000, r"\sqrt{" * 500],
    ids=["tower", "tower in dollars", "tower of a program", "brackets", "fractions", "open roots"],
)
async def test_hostile_latex_is_wrong_or_ended_at_the_limit_on_cpu_time(pool: GraderPool, answer: str) -> None:
    verdict = await pool.grade("math", {"reference": "7", "prediction": answer}, place="")
    assert verdict.score == 0.0 or verdict == Verdict.timed_out("used more than 1 s of CPU time")
    assert (await pool.grade("math", {"reference": "7", "prediction": "7.0"}, place="")).score == 1.0


async def test_the_limit_on_cpu_time_holds_to_a_fraction_of_a_second(tmp_path: Path) -> None:
    with GraderPool(workers=1, limits=GraderLimits(cpu_seconds=0.25)) as pool:
        verdict = await pool.grade("compute", {"file": str(tmp_path / "used")}, place="")
    assert verdict == Verdict.timed_out("used more than 0.25 s of CPU time")
    *_, last, _ = (tmp_path / "used").read_text().split("\n")  # what follows the last line's end may be cut off
    assert 0.0 < float(last) < 1.0  # CPU seconds, the import among them


@pytest.mark.parametrize("children", [0, 2])
async def test_what_a_grader_leaves_running_ends_with_its_verdict(pool: GraderPool, children: int) -> None:
    mark = f"left by {os.getpid()} at {time.monotonic_ns()}"
    assert (await pool.grade("leave_processes", {"mark": mark, "children": children}, place="")).score == 1.0
    assert comes_true(lambda: not processes_with(mark))


async def test_a_thread_that_computes_on_ends_with_its_verdict(pool: GraderPool) -> None:
    first = await pool.grade("leave_thread", {}, place="")
    second = await pool.grade("say_process", {}, place="")
    assert (first.score, second.score) == (1.0, 1.0)
    assert first.detail != second.detail


async def test_hostile_items_cost_their_neighbours_nothing(pool: GraderPool) -> None:
    graders = ["seven", "crash", "seven", "allocate_10_gb", "seven", "leave"] * 10
    verdicts = await asyncio.gather(*(pool.grade(each, {"value": 3}, place="") for each in graders))
    assert [one.score for one in verdicts] == [3.0 if each == "seven" else None for each in graders]
    assert pool.statistics().invalid == 30


@pytest.mark.slow
async def test_ten_thousand_items_leak_neither_processes_nor_files() -> None:
    with GraderPool(workers=2, limits=GraderLimits(cpu_seconds=1.0, memory_mib=512), items_per_worker=500) as pool:
        await pool.grade("seven", {"value": 0}, place="")
        files = open_files()
        for start in range(0, 10_000, 1000):
            graders = ["crash" if number % 100 == 99 else "seven" for number in range(start, start + 1000)]
            items = (pool.grade(each, {"value": number}, place="") for number, each in enumerate(graders))
            verdicts = await asyncio.gather(*items)
            assert [one.score for one in verdicts] == [
                None if each == "crash" else number % 7 for number, each in enumerate(graders)
            ]
            assert open_files() == files
            assert len(graders_of_ours()) <= 3
        statistics = pool.statistics()
    assert (statistics.scores, statistics.invalid) == (9901, 100)
    assert 100 < statistics.workers_started <= 130
