"""Has every session its turn at the backend, and never more than it may have?"""

import asyncio
import threading

import httpx
from calls import Caller, until

from crucible.server.sampling_line import SamplingLine
from serving import Serving


async def test_sessions_take_turns_whoever_asked_for_more() -> None:
    line, done, at_once = SamplingLine(most=2), list[str](), list[int]()
    inside = 0

    async def request(session_id: str) -> None:
        nonlocal inside
        async with line.place(session_id, 1):
            inside += 1
            at_once.append(inside)
            await asyncio.sleep(0)
            inside -= 1
            done.append(session_id)

    await asyncio.gather(*(request("many") for _ in range(20)), *(request("few") for _ in range(3)))
    assert max(at_once) == 2
    assert done.index("few") <= 4
    assert [each for each in done[:10] if each == "few"] == ["few"] * 3


async def test_a_large_group_has_its_turn_and_a_cancelled_one_gives_its_place_back() -> None:
    line = SamplingLine(most=4)
    async with line.place("a", 3):
        large = asyncio.create_task(_through(line, "b", 100))
        small = asyncio.create_task(_through(line, "c", 1))
        await asyncio.sleep(0)
        assert not small.done()  # it came after the large one, which would wait for ever
        large.cancel()
        await asyncio.wait([large, small], timeout=5)
        assert small.done()
    await asyncio.wait_for(_through(line, "d", 4), 5)


async def _through(line: SamplingLine, session_id: str, count: int) -> None:
    async with line.place(session_id, count):
        await asyncio.sleep(0)


def test_what_a_gone_client_asked_for_is_not_drawn(fake_server: Serving, http: httpx.Client) -> None:
    gate, sampling = threading.Event(), fake_server.served.sampling
    caller = Caller.new(http, model=False)
    sampler = caller.sampler()
    sampling._queue.submit(gate.wait)  # the backend is busy
    for number in range(100):
        caller.sample(sampler, number, num_samples=4)
    until(lambda: fake_server.live.waiting_samples == 400)
    http.post(f"/sessions/{caller.session_id}/finish", json={"reason": {"type": "interrupted"}})
    gate.set()
    until(lambda: fake_server.live.waiting_samples == 0)
    assert fake_server.served.meters.tokens_prompted <= 3 * 128 / 4
