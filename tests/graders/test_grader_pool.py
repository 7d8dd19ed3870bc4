"""How does the pool begin, serve and end? Whatever ends it, no process and no folder of its stays behind."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from watching import children_of, comes_true, folders_of_graders, graders_of_ours, lives

from crucible.errors import ConfigError, DataError
from crucible.train.graders.limits import GraderLimits
from crucible.train.graders.pool import CallFailedError, GraderPool
from crucible.train.graders.verdict import Verdict

HERE = str(Path(__file__).parent)


async def test_nothing_is_started_before_the_first_item() -> None:
    with GraderPool() as pool:
        before = graders_of_ours()
        await pool.grade("exact", {"reference": "a", "prediction": "a"}, place="")
        assert not before
        assert pool.statistics().keepers_started == 1


async def test_verdicts_come_back_to_whoever_asked(pool: GraderPool) -> None:
    verdicts = await asyncio.gather(*(pool.grade("seven", {"value": each}, place="") for each in range(200)))
    assert [one.score for one in verdicts] == [float(each % 7) for each in range(200)]


async def test_a_worker_is_replaced_after_its_items() -> None:
    with GraderPool(workers=1, items_per_worker=3) as pool:
        said = [(await pool.grade("say_process", {}, place="")).detail for _ in range(7)]
    assert [said.index(each) for each in said] == [0, 0, 0, 3, 3, 3, 6]


def test_one_pool_serves_several_event_loops(pool: GraderPool) -> None:
    scores = [asyncio.run(pool.grade("seven", {"value": each}, place="")).score for each in (8, 9)]
    assert scores == [1.0, 2.0]


async def test_every_worker_has_the_same_order_of_sets(pool: GraderPool) -> None:
    verdicts = await asyncio.gather(*(pool.grade("say_hash", {}, place="") for _ in range(4)))
    assert len({one.detail for one in verdicts}) == 1


async def test_a_worker_has_no_way_to_another_workers_line(pool: GraderPool) -> None:
    verdicts = await asyncio.gather(*(pool.grade("count_files", {}, place="") for _ in range(2)))
    assert pool.statistics().workers_started == 2
    assert [one.score for one in verdicts] == [4.0, 4.0]  # the three that all have, and its own line


async def test_a_cancelled_grading_ends_its_worker(pool: GraderPool) -> None:
    hanging = asyncio.create_task(pool.grade("wait_for_ever", {}, place=""))
    await pool.grade("seven", {"value": 1}, place="")
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    verdicts = await asyncio.gather(*(pool.grade("seven", {"value": each}, place="") for each in range(4)))
    assert [one.score for one in verdicts] == [0.0, 1.0, 2.0, 3.0]
    assert comes_true(lambda: len(graders_of_ours()) <= 3)


async def test_an_unknown_grader_and_an_item_that_is_no_json_are_the_users_to_mend(pool: GraderPool) -> None:
    with pytest.raises(ConfigError, match=r"no such grader.*maths.*Did you mean math"):
        await pool.grade("maths", {}, place="")
    with pytest.raises(DataError, match="no JSON data"):
        await pool.grade("seven", {"value": object()}, place="")


async def test_a_killed_keeper_is_replaced_and_what_it_was_at_is_asked_again(pool: GraderPool) -> None:
    await pool.grade("seven", {"value": 1}, place="")
    waiting = asyncio.create_task(pool.grade("hang", {}, place=""))
    await asyncio.sleep(0.1)
    family = [psutil.Process(pid) for pid in graders_of_ours()]
    os.kill(graders_of_ours()[0], signal.SIGKILL)  # the keeper
    assert (await waiting).state == "timed_out"
    assert not any(lives(each) for each in family)
    assert pool.statistics().keepers_started == 2


async def test_a_call_gives_the_functions_value_or_says_why_not(pool: GraderPool) -> None:
    assert await pool.call("json:loads", ['{"a": [1]}']) == {"a": [1]}
    with pytest.raises(CallFailedError, match="JSONDecodeError"):
        await pool.call("json:loads", ["{"])


async def test_closing_ends_what_hangs_and_tells_who_waits() -> None:
    pool = GraderPool(workers=1)
    waiting = asyncio.create_task(pool.grade("wait_for_ever", {}, place=""))
    await asyncio.sleep(0.3)
    pool.close()
    with pytest.raises(RuntimeError, match="was closed"):
        await waiting
    assert not graders_of_ours()
    with pytest.raises(RuntimeError, match="is closed"):
        await pool.grade("seven", {"value": 1}, place="")


PARENT = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
import hostile_graders
from crucible.train.graders.pool import GraderPool

async def main():
    with GraderPool(workers=2) as pool:
        await pool.grade("seven", {"value": 1}, place="")
        print("ready", flush=True)
        await asyncio.gather(*(pool.grade("wait_for_ever", {}, place="") for _ in range(2)))

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_when_the_process_is_killed_its_graders_die_and_their_folder_goes(number: signal.Signals) -> None:
    before = folders_of_graders()
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, HERE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        assert comes_true(lambda: len(children_of(parent.pid)) == 3)
        family = [psutil.Process(pid) for pid in children_of(parent.pid)]
        parent.send_signal(number)
        parent.wait()
    assert comes_true(lambda: not any(lives(each) for each in family))
    assert comes_true(lambda: folders_of_graders() <= before)


SCRIPT = """
import asyncio
from crucible.train.graders.pool import GraderPool
from crucible.train.graders.registry import register_grader

def longer(item):
    return len(item["text"]) / 10, "by its length"

if __name__ == "__main__":
    register_grader("longer", longer)
    with GraderPool(workers=1) as pool:
        print(asyncio.run(pool.grade("longer", {"text": "12345"}, place="")))
"""


def test_a_script_grades_by_a_function_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{Verdict.of(0.5, 'by its length')}\n"


def test_a_script_that_would_do_its_work_again_in_each_worker_is_told_so(tmp_path: Path) -> None:
    unguarded = SCRIPT.replace('if __name__ == "__main__":', "if True:")
    (tmp_path / "script.py").write_text(unguarded)
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=True)
    assert "starts no graders: put `if __name__ ==" in done.stdout


def test_limits_that_cannot_be_are_told_all_at_once() -> None:
    with pytest.raises(ConfigError) as told:
        GraderLimits(cpu_seconds=0.0, memory_mib=-1, wall_seconds=float("nan"))
    assert {problem.where for problem in told.value.problems} >= {"cpu_seconds", "memory_mib", "wall_seconds"}
