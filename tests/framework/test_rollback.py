"""When a run ends early, is what it did since its last point undone, newest first, and all that it holds freed?"""

# ruff: noqa: ARG002  (a stage's methods take a context, wanted or not)

import asyncio
from pathlib import Path
from typing import Any

import pytest
from test_resume import run_in
from toys import Add, Fail, Put, Save, Sleep, Undone, run_nodes, slot

from crucible.framework import Loop, Node, Parallel, Range, Rebuilt, Slot, Stage, StageContext, Workflow
from crucible.telemetry import Bus

slots = {name: slot(name, int) for name in "abcd"}
a, b, c, d = slots.values()


@pytest.fixture(autouse=True)
def fresh() -> None:
    Undone.log.clear()


def undone(name: str, value: int = 1, **options: Any) -> Undone:
    return Undone(f"{name}", into=slots[name], value=value, **options)


def undoings() -> list[str]:
    return [line for line in Undone.log if not line.startswith("run ")]


class Interrupt(Stage):
    async def execute(self, ctx: StageContext) -> None:
        raise KeyboardInterrupt(ctx.stage)


@pytest.mark.parametrize(("last", "error"), [(Fail("f"), RuntimeError), (Interrupt("i"), KeyboardInterrupt)])
def test_stages_are_taken_back_newest_first(last: Stage, error: type[BaseException]) -> None:
    with pytest.raises(error):
        asyncio.run(run_nodes(undone("a"), undone("b"), last))
    assert undoings() == [f"undo b 1 for {error.__name__}", "free b", f"undo a 1 for {error.__name__}", "free a"]


async def test_a_cancelled_run_is_taken_back_too() -> None:
    task = asyncio.create_task(run_nodes(undone("a"), Sleep("sleep")))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert undoings() == ["undo a 1 for CancelledError", "free a"]


async def test_a_run_that_reaches_its_end_takes_nothing_back() -> None:
    await run_nodes(undone("a"))
    assert undoings() == []


async def test_what_came_before_the_last_point_is_only_released(tmp_path: Path) -> None:
    body = [Put("put", into=d, value=1), undone("a"), Loop("l", over=Range(2), body=[undone("b"), Save("s", step=d)])]
    with pytest.raises(RuntimeError):
        await run_in(
            tmp_path / "run", Workflow("w", body=[*body, Loop("m", over=Range(1), body=[undone("c"), Fail("f")])])
        )
    assert undoings() == ["undo c 1 for RuntimeError", "free c", "free b", "free a"]  # b as it ran last


async def test_a_run_that_writes_nothing_has_no_points_and_undoes_all() -> None:
    with pytest.raises(RuntimeError):
        await run_nodes(Put("put", into=d, value=1), undone("a"), Save("save", step=d), Fail("f"))
    assert undoings() == ["undo a 1 for RuntimeError", "free a"]


async def test_iterations_begun_ahead_of_the_last_point_are_undone(tmp_path: Path) -> None:
    class FailAt(Add):
        async def execute(self, ctx: StageContext) -> None:
            await super().execute(ctx)
            if ctx.read(self.to) == 2:
                raise RuntimeError("the second settle failed")

    item = Slot("item", int, Rebuilt(by="l"))
    body: list[Node] = [Add("count", to=b), Undone("u", into=a, value=7), Save("save", step=b)]
    loop = Loop("l", over=Range(4), bind=item, body=body, settle=[FailAt("settle", to=c)], depth=2)
    puts = [Put("b", into=b, value=0), Put("c", into=c, value=0)]
    with pytest.raises(RuntimeError, match="second settle"):
        await run_in(tmp_path / "run", Workflow("w", body=[*puts, loop]))
    assert Undone.log.count("run u") == 4
    assert undoings() == ["undo u 7 for RuntimeError", "free u"] * 3 + ["free u"]  # the first one is in the point


async def test_each_time_a_stage_ran_is_undone_with_what_it_wrote_then() -> None:
    item = Slot("item", int, Rebuilt(by="l"))

    class Take(Undone):
        async def execute(self, ctx: StageContext) -> None:
            ctx.write(self.into, self.log.count("took"))
            self.log.append("took")

    with pytest.raises(RuntimeError):
        await run_nodes(Loop("l", over=Range(3), bind=item, body=[Take("t", into=a, value=0)]), Fail("f"))
    assert [line for line in undoings() if "undo" in line] == [
        f"undo t {number} for RuntimeError" for number in (2, 1, 0)
    ]


async def test_a_rollback_that_fails_hides_neither_the_error_nor_the_others() -> None:
    class Clumsy(Undone):
        async def rollback(self, ctx: StageContext, error: BaseException) -> None:
            raise OSError("stuck")

    with pytest.raises(RuntimeError, match="f failed") as caught:
        await run_nodes(undone("a"), Clumsy("clumsy", into=b, value=1), Fail("f"))
    assert undoings() == ["free clumsy", "undo a 1 for RuntimeError", "free a"]
    assert "and w > clumsy could not be taken back: OSError: stuck" in caught.value.__notes__


async def test_a_rollback_that_has_begun_is_finished_when_the_run_is_cancelled() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Undone):
        async def rollback(self, ctx: StageContext, error: BaseException) -> None:
            begun.set()
            await go_on.wait()
            await super().rollback(ctx, error)

    task = asyncio.create_task(run_nodes(Slow("slow", into=b, value=1), Fail("f")))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(RuntimeError, match="f failed"):
        await task
    assert undoings() == ["undo slow 1 for RuntimeError", "free slow"]


async def test_being_cancelled_twice_during_a_rollback_goes_on_with_the_next() -> None:
    begun = asyncio.Event()

    class Slow(Undone):
        async def rollback(self, ctx: StageContext, error: BaseException) -> None:
            begun.set()
            await asyncio.sleep(3600)

    task = asyncio.create_task(run_nodes(undone("a"), Slow("slow", into=b, value=1), Fail("f")))
    await begun.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="f failed"):
        await task
    assert undoings() == ["free slow", "undo a 1 for RuntimeError", "free a"]


async def test_a_cancellation_while_an_attempt_is_taken_back_is_not_lost() -> None:
    begun = asyncio.Event()

    class Slow(Undone):
        async def rollback(self, ctx: StageContext, error: BaseException) -> None:
            begun.set()
            await asyncio.sleep(0.01)
            await super().rollback(ctx, error)

    task = asyncio.create_task(run_nodes(Slow("slow", into=b, value=1, fails=1, retry=1, backoff=0.0)))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 20)
    assert Undone.log == ["run slow", "undo slow 1 for ConnectionError", "free slow"]


@pytest.mark.parametrize("answer", ["as if done", "another error"])
async def test_a_stage_that_swallows_being_cancelled_does_not_go_on(answer: str) -> None:
    class Polite(Stage):
        async def execute(self, ctx: StageContext) -> None:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if answer == "another error":
                    raise ConnectionError from None

    retried = Polite("polite", retry=9, backoff=0.0) if answer == "another error" else Polite("polite")
    task = asyncio.create_task(run_nodes(retried, undone("a")))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 20)
    assert Undone.log == []


async def test_the_failing_stage_itself_is_taken_back() -> None:
    with pytest.raises(ConnectionError):
        await run_nodes(undone("a", fails=1))
    assert undoings() == ["undo a 1 for ConnectionError", "free a"]


async def test_stages_of_nested_workflows_and_branches_are_taken_back_in_the_order_they_ran() -> None:
    inner = Workflow("inner", body=[undone("b")])
    body = [undone("a"), inner, Parallel("p", branches=[[undone("c")], [undone("d")]], max_concurrency=1), Fail("f")]
    with pytest.raises(RuntimeError):
        await run_nodes(*body)
    assert [line.split()[1] for line in undoings() if line.startswith("undo")] == ["d", "c", "b", "a"]


async def test_a_branch_that_fails_while_the_run_goes_on_is_taken_back_at_once() -> None:
    branches: list[list[Node]] = [[undone("a"), undone("b"), Fail("f")], [undone("c")]]
    result = await run_nodes(Parallel("p", branches=branches, on_error="continue", max_concurrency=1))
    assert undoings() == ["undo b 1 for RuntimeError", "free b", "undo a 1 for RuntimeError", "free a"]
    assert Undone.log[-1] == "run c" and result.state == {"c": 1}


async def test_a_continued_run_does_not_undo_what_it_only_made_again(tmp_path: Path) -> None:
    handle = Slot("handle", int, Rebuilt(by="open"))
    copy = [Add("use", to=d, other=handle), Save("save", step=d)]

    def made(last: Node) -> Workflow:
        start: list[Node] = [Undone("open", into=handle, value=5), Put("put", into=d, value=0)]
        return Workflow("w", body=[*start, Loop("l", over=Range(2), body=copy), last, Add("more", to=d, other=handle)])

    for _ in range(2):
        Undone.log.clear()
        with pytest.raises(RuntimeError):
            await run_in(tmp_path / "run", made(Fail("f")))
    assert Undone.log == ["run open", "free open"]


async def test_what_a_rollback_says_reaches_the_telemetry_before_the_run_ends() -> None:
    class Telling(Undone):
        async def rollback(self, ctx: StageContext, error: BaseException) -> None:
            ctx.emit("training.epoch", {"undone": 1})

    bus, names = Bus(), list[str]()
    bus.attach("list", ("training", "workflow"), lambda event: names.append(event.name))
    with pytest.raises(RuntimeError):
        await run_nodes(Telling("t", into=a, value=1), Fail("f"), bus=bus)
    assert names == ["workflow.start", "training.epoch", "workflow.exception"]
