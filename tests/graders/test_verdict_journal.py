"""Is a verdict on record before it is used, and taken from there ever after? Also where a kill has cut the file."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from crucible.errors import DataError
from crucible.framework import read_records
from crucible.train.graders.graders import Graders
from crucible.train.graders.journal import JournalledGraders
from crucible.train.graders.pool import GraderPool
from crucible.train.graders.verdict import Verdict


async def graded(graders: Graders, item: Mapping[str, Any], place: str = "3/0/1/0") -> Verdict:
    return await graders.grade("count", item, place=place)


@pytest.fixture
def item(tmp_path: Path) -> dict[str, Any]:
    return {"file": str(tmp_path / "calls"), "also": {"b": 1, "a": 2}}


async def test_a_resumed_run_takes_the_recorded_verdict_and_grades_nothing(
    pool: GraderPool, tmp_path: Path, item: dict[str, Any]
) -> None:
    with JournalledGraders(pool, tmp_path / "rollouts" / "verdicts.jsonl") as graders:
        assert (await graded(graders, item)).score == 1.0
    with JournalledGraders(pool, tmp_path / "rollouts" / "verdicts.jsonl") as graders:
        again = {"also": {"a": 2, "b": 1}, "file": item["file"]}  # the same item, its keys in another order
        assert (await graded(graders, again)).score == 1.0
        assert (await graded(graders, item, place="3/0/2/0")).score == 2.0


async def test_a_verdict_is_in_the_file_when_it_is_given(
    pool: GraderPool, tmp_path: Path, item: dict[str, Any]
) -> None:
    path = tmp_path / "verdicts.jsonl"
    with JournalledGraders(pool, path) as graders:
        verdict = await graded(graders, item)
        (record,), _, damage = read_records(path)
    assert damage == ""
    assert (record["place"], record["grader"], record["score"]) == ("3/0/1/0", "count", verdict.score)


async def test_every_state_of_a_verdict_comes_back_whole(pool: GraderPool, tmp_path: Path) -> None:
    path, names = tmp_path / "verdicts.jsonl", ["hang", "crash", "write_much", "seven"]
    seen: list[list[Verdict]] = []
    for _ in range(2):
        with JournalledGraders(pool, path) as graders:
            seen.append([await graders.grade(name, {"value": 9}, place="0/0") for name in names])
    assert seen[0] == seen[1]
    assert [one.state for one in seen[0]] == ["timed_out", "invalid", "score", "score"]
    assert pool.statistics().items == 4


async def test_asked_twice_at_once_both_get_the_verdict_that_is_on_record(
    pool: GraderPool, tmp_path: Path, item: dict[str, Any]
) -> None:
    with JournalledGraders(pool, tmp_path / "verdicts.jsonl") as graders:
        both = await asyncio.gather(graded(graders, item), graded(graders, item))
        assert both[0] == both[1] == await graded(graders, item)


async def test_the_line_that_a_kill_has_cut_off_is_dropped(
    pool: GraderPool, tmp_path: Path, item: dict[str, Any]
) -> None:
    path = tmp_path / "verdicts.jsonl"
    with JournalledGraders(pool, path) as graders:
        for place in ("0/0", "0/1"):
            await graded(graders, item, place=place)
    path.write_bytes(path.read_bytes()[:-9])
    with JournalledGraders(pool, path) as graders:
        assert (await graded(graders, item, place="0/0")).score == 1.0
        assert (await graded(graders, item, place="0/1")).score == 3.0
    with JournalledGraders(pool, path) as graders:
        assert (await graded(graders, item, place="0/1")).score == 3.0


async def test_a_damaged_record_is_told_with_its_line_and_what_to_do(
    pool: GraderPool, tmp_path: Path, item: dict[str, Any]
) -> None:
    path = tmp_path / "verdicts.jsonl"
    with JournalledGraders(pool, path) as graders:
        for place in ("0/0", "0/1"):
            await graded(graders, item, place=place)
    path.write_bytes(path.read_bytes().replace(b'"score":1.0', b'"score":0.0'))
    with pytest.raises(DataError, match=r"verdicts.jsonl:1: the line is damaged.*delete it"):
        JournalledGraders(pool, path)
