"""Does a stage in a process of its own do all that one in the loop does, and end when it is told to?"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from toys import Append, Break, Crunch, Fork, Put, slot

from crucible.errors import DataError, PortError
from crucible.framework import Parallel, Rebuilt, Run, RunResult, Slot, Stage, StageContext, Workflow, Writes, execute
from crucible.telemetry import Bus, Event

number, square, pid = slot("number", int), slot("square", int), slot("pid", int)


async def run(*stages: Stage | Parallel, bus: Bus | None = None, folder: Path | None = None) -> RunResult:
    made = Workflow("w", body=[Put("put", into=number, value=7), *stages])
    facts = Run(run_id="r", config={"key": "value"}, run_dir=folder)
    return await execute(made, facts, {}, telemetry=bus or Bus())


def gone(process: int) -> bool:
    """Whether there is no such process, or only what its parent has not asked for yet (a grandchild is init's)."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{process}/stat")
    return status.exists() and ") Z " in status.read_text()


async def ends(process: int) -> bool:
    """Whether it is gone within ten seconds: what is killed dies when the kernel comes to it, and its parent waits
    for it alone, not for what it has started."""
    patience = time.monotonic() + 10
    while not gone(process) and time.monotonic() < patience:
        await asyncio.sleep(0.01)
    return gone(process)


async def appears(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(0.01)


async def test_what_it_writes_records_emits_and_asks_for_arrives(tmp_path: Path) -> None:
    bus, events = Bus(), list[Event]()
    bus.attach("list", "training.epoch", events.append)
    result = await run(Crunch("crunch", number=number, into=square, pid=pid), bus=bus, folder=tmp_path)
    assert result.state["square"] == 49 and result.state["pid"] not in (os.getpid(), None)
    assert result.metrics[0].values == {"square": 49.0} and result.results == {"config": "value"}
    assert result.artifacts == {"plot": Path("plot.svg")} and result.checkpoints == [{"step": 1}]
    assert [event.metadata for event in events] == [{"run_id": "r", "stage": "crunch"}]


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("abort", RuntimeError, "the stage's process ended without an answer .killed by SIGABRT."),
        ("exit", RuntimeError, "the stage's process ended without an answer .exit code 3."),
        ("user", DataError, r"^rows.jsonl:1: no rows\.\n"),
        ("file", FileNotFoundError, "/nowhere/at/all"),
        ("odd error", RuntimeError, "RuntimeError: <function"),
        ("odd result", RuntimeError, "what the stage made cannot be sent back"),
    ],
)
async def test_whatever_goes_wrong_is_one_clear_error(how: str, kind: type[Exception], words: str) -> None:
    into = Slot("into", object, Rebuilt(by="break")) if how == "odd result" else None
    with pytest.raises(kind, match=words) as caught:
        await run(Break("break", how=how, into=into))
    assert caught.value.__notes__[-1] == "in the stage w > break"


async def test_an_exception_keeps_what_it_says_besides_its_message() -> None:
    with pytest.raises(PortError) as caught:
        await run(Break("break", how="port"))
    assert (caught.value.port, caught.value.adapter, caught.value.retryable) == ("p", "a", True)
    assert str(caught.value) == "p (a): busy" and "in execute" in caught.value.__notes__[0]


async def test_a_process_that_fails_in_a_way_that_may_pass_is_started_again() -> None:
    bus, events = Bus(), list[Event]()
    bus.attach("list", "stage.retry", events.append)
    with pytest.raises(PortError):
        await run(Break("break", how="port", retry=1, backoff=0.0), bus=bus)
    assert [event.metadata["error"] for event in events] == ["PortError"]


async def test_a_stage_that_cannot_be_sent_says_so() -> None:
    class Local(Stage):
        runs_in = "process"
        into: Writes[int]

        def execute(self, ctx: StageContext) -> None:
            ctx.write(self.into, 1)

    with pytest.raises(RuntimeError, match=r"the stage cannot be sent to a process: .*Local"):
        await run(Local("local", into=square))


@pytest.mark.parametrize("how", ["cancelled", "timed out", "beside a failure"])
async def test_however_it_is_ended_its_process_and_what_that_started_are_gone(how: str, tmp_path: Path) -> None:
    note = tmp_path / "note"
    hang = Break("hang", how="hang", note=str(note), timeout=2.0 if how == "timed out" else None)

    class FailThen(Stage):
        async def execute(self, ctx: StageContext) -> None:
            await appears(note)
            raise RuntimeError(ctx.stage)

    Break.log.clear()
    beside = Parallel("p", branches=[[hang], [FailThen("f")]])
    task = asyncio.create_task(run(beside if how == "beside a failure" else hang))
    await appears(note)
    if how == "cancelled":
        task.cancel()
    expected = {"cancelled": asyncio.CancelledError, "timed out": TimeoutError}.get(how, RuntimeError)
    with pytest.raises(expected) as caught:
        await task
    assert Break.log == [f"undo hang for {type(caught.value).__name__}"]
    assert [await ends(int(process)) for process in note.read_text().split()] == [True, True]


@pytest.mark.parametrize("dies", [False, True])
async def test_what_a_process_has_forked_neither_keeps_it_from_ending_nor_outlives_it(
    tmp_path: Path, dies: bool
) -> None:
    note = tmp_path / "note"
    with pytest.raises(RuntimeError, match="killed by SIGKILL") if dies else nullcontext():
        await asyncio.wait_for(run(Fork("fork", note=str(note), dies=dies)), 30)
    assert await ends(int(note.read_text()))


async def test_a_value_that_is_changed_in_place_comes_back() -> None:
    many = slot("many", list[int])
    result = await run(Put("start", into=many, value=[1]), Append("append", to=many))
    assert result.state["many"] == [1, 2]


async def test_a_run_cancelled_while_its_process_starts_leaves_none() -> None:
    task = asyncio.create_task(run(Break("hang", how="hang", note="/nowhere/note")))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    import multiprocessing

    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_when_the_run_is_killed_or_interrupted_its_stages_process_dies(tmp_path: Path, sign: signal.Signals) -> None:
    note = tmp_path / "note"
    program = (
        "import asyncio, signal; from toys import Break, run_nodes\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background is born deaf to it\n"
        f"if __name__ == '__main__': asyncio.run(run_nodes(Break('b', how='hang', note={str(note)!r})))"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment, stderr=subprocess.DEVNULL)
    asyncio.run(asyncio.wait_for(appears(note), 20))
    parent.send_signal(sign)
    assert parent.wait(20) == -sign
    patience = time.monotonic() + 10
    processes = [int(process) for process in note.read_text().split()]
    while not all(gone(process) for process in processes) and time.monotonic() < patience:
        time.sleep(0.02)
    assert all(gone(process) for process in processes)
