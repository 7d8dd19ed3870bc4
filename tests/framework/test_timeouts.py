"""Is a stage that takes too long cancelled, taken back, and told apart from every other failure?"""

# ruff: noqa: ARG002  (a stage's methods take a context, wanted or not)

import asyncio
import time
from pathlib import Path

import pytest
from toys import Break, Put, Sleep, run_nodes, slot

from crucible.framework import Stage, StageContext, StageTimeoutError, Updates
from crucible.telemetry import Bus, Event

n = slot("n", int)
log: list[str] = []


class Slow(Stage):
    """Take for ever, or fail in a way of its own; note what became of it."""

    to: Updates[int]
    answer: str = ""

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.to, 100)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            log.append("cancelled")
            if self.answer == "another error":
                raise ValueError("translated") from None
            if self.answer == "as if done":
                return
            raise

    async def rollback(self, ctx: StageContext, error: BaseException) -> None:
        log.append(f"undone for {type(error).__name__}")


@pytest.fixture(autouse=True)
def fresh() -> None:
    log.clear()


@pytest.mark.parametrize("answer", ["", "another error", "as if done"])
async def test_a_stage_over_its_time_is_cancelled_and_taken_back_whatever_it_makes_of_that(answer: str) -> None:
    with pytest.raises(StageTimeoutError, match=r"longer than its timeout of 0\.02 s") as caught:
        await run_nodes(Put("put", into=n, value=1), Slow("slow", to=n, answer=answer, timeout=0.02))
    assert log == ["cancelled", "undone for StageTimeoutError"]
    assert caught.value.__notes__ == ["in the stage w > slow"]
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0


async def test_a_stage_that_blocks_past_its_time_is_late_too() -> None:
    class Block(Stage):
        async def execute(self, ctx: StageContext) -> None:
            time.sleep(0.05)

    with pytest.raises(StageTimeoutError):
        await run_nodes(Block("block", timeout=0.01))


async def test_a_timeout_of_the_stages_own_is_not_taken_for_the_runners() -> None:
    class Own(Stage):
        async def execute(self, ctx: StageContext) -> None:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(3600)

    with pytest.raises(TimeoutError) as caught:
        await run_nodes(Own("own", timeout=30.0))
    assert not isinstance(caught.value, StageTimeoutError)


async def test_being_cancelled_is_not_taken_for_a_timeout() -> None:
    task = asyncio.create_task(run_nodes(Put("put", into=n, value=1), Slow("slow", to=n, timeout=30.0)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["cancelled", "undone for CancelledError"]


async def test_a_timeout_is_worth_another_attempt_and_each_has_the_whole_time() -> None:
    bus, events = Bus(), list[Event]()
    bus.attach("list", "stage.retry", events.append)
    with pytest.raises(StageTimeoutError):
        await run_nodes(Sleep("sleep", timeout=0.02, retry=2, backoff=0.0), bus=bus)
    assert [event.metadata["error"] for event in events] == ["StageTimeoutError"] * 2


async def test_a_stage_over_its_time_can_be_skipped_and_writes_nothing() -> None:
    result = await run_nodes(Put("put", into=n, value=1), Slow("slow", to=n, timeout=0.02, on_error="skip"))
    assert result.state == {"n": 1} and list(result.results["skipped_stages"]) == ["w > slow"]


async def test_validating_counts_as_the_stages_time() -> None:
    class Hesitant(Sleep):
        async def validate(self, ctx: StageContext) -> None:
            await asyncio.sleep(3600)

    with pytest.raises(StageTimeoutError):
        await run_nodes(Hesitant("h", timeout=0.02))


async def test_a_process_over_its_time_fails_as_a_timeout(tmp_path: Path) -> None:
    with pytest.raises(StageTimeoutError):
        await run_nodes(Break("hang", how="hang", note=str(tmp_path / "note"), timeout=0.05))
