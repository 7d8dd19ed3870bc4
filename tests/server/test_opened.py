"""Are a bounded number of weights open, whoever may sample from how many, and is memory waited for?"""

import asyncio
from collections.abc import Awaitable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from crucible.errors import CheckpointError, PortError
from crucible.ports.future import Future
from crucible.ports.sampling_client import SamplingSession
from crucible.ports.training_client import SessionConfig
from crucible.server import capacity
from crucible.server.capacity import Capacity
from crucible.server.opened import OpenWeights, Weights
from crucible.server.refusals import Refusal
from crucible.testing.fakes import FakeBackend, FakeSamplingClient

MODEL = "a-fake"


class Narrow(FakeSamplingClient):
    """A backend with memory for `most` sessions, which says so as the engine does."""

    most = 1

    def start_session(self, *, base_model: str | None = None, model_path: str | None = None) -> Future[SamplingSession]:
        if len(self._sessions) < self.most:
            return super().start_session(base_model=base_model, model_path=model_path)
        details = {"queue_state": "paused_capacity", "needed_bytes": 1, "limit_bytes": self.most}
        raise PortError("no memory", port="sampling_client", adapter="narrow", retryable=True, details=details)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[FakeBackend]:
    made = FakeBackend(checkpoint_dir=tmp_path)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "AGAIN", 0.01)


def over(sampling: FakeSamplingClient, *, most: int = 2, patience: float = 30.0) -> tuple[OpenWeights, Capacity]:
    tasks: set[asyncio.Task[None]] = set()

    def spawn(work: Awaitable[None]) -> None:
        assert isinstance(work, Coroutine)
        tasks.add(asyncio.get_running_loop().create_task(work))

    room = Capacity(patience=patience)
    return OpenWeights(sampling, capacity=room, spawn=spawn, most=most), room


def saved(backend: FakeBackend, count: int) -> list[str]:
    training = backend.training_client
    session = training.start_session(SessionConfig(model=MODEL)).result()
    return [training.save_weights_for_sampler(session, f"s{number}").result().path for number in range(count)]


async def settled(sampling: FakeSamplingClient, count: int) -> None:
    async with asyncio.timeout(10):
        while len(sampling._sessions) != count:
            await asyncio.sleep(0.005)


async def test_the_longest_idle_are_closed_and_opened_again_when_they_are_used(backend: FakeBackend) -> None:
    sampling = backend.sampling_client
    weights, _ = over(sampling)
    owned = [await weights.own(MODEL, path) for path in saved(backend, 6)]
    await settled(sampling, 2)
    async with weights.used(owned[0]) as session:
        assert session.model_path == owned[0].key[1]
    await settled(sampling, 2)


async def test_the_same_weights_are_open_once_however_many_own_them(backend: FakeBackend) -> None:
    weights, _ = over(backend.sampling_client)
    one, two = await asyncio.gather(weights.own(MODEL, None), weights.own(MODEL, None))
    assert one is two
    assert len(backend.sampling_client._sessions) == 1
    for owned in (one, two):
        weights.disown(owned)
    await settled(backend.sampling_client, 0)


async def test_weights_in_use_outlive_their_last_owner(backend: FakeBackend) -> None:
    weights, _ = over(backend.sampling_client)
    gone: list[Weights] = []

    async def afterwards() -> None:
        gone.append(owned)

    owned = await weights.own(MODEL, saved(backend, 1)[0], afterwards=afterwards)
    async with weights.used(owned):
        weights.disown(owned)
        await asyncio.sleep(0.05)
        assert not gone
    await settled(backend.sampling_client, 0)
    async with asyncio.timeout(10):
        while not gone:  # it follows the session's end
            await asyncio.sleep(0.005)
    assert gone == [owned]
    with pytest.raises(Refusal, match="has ended"):
        async with weights.used(owned):
            pass


async def test_what_cannot_be_opened_is_not_remembered(backend: FakeBackend) -> None:
    weights, _ = over(backend.sampling_client)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="no such checkpoint"):
            await weights.own(MODEL, "memory:none")
    assert not weights._known


async def test_idle_weights_make_way_and_used_ones_are_waited_for() -> None:
    sampling = Narrow()
    weights, room = over(sampling)
    first = await weights.own(MODEL, None)
    second = await weights.own("another", None)  # the first one is idle: it makes way
    async with weights.used(second):
        waits: asyncio.Task[Any] = asyncio.create_task(weights.own(MODEL + "-3", None))
        while not room.waiting:
            await asyncio.sleep(0.005)
        assert not waits.done()
    assert (await waits).key == (MODEL + "-3", None)
    assert (room.waiting, first.opened) == (0, None)
    sampling.close()


async def test_what_can_never_fit_is_not_waited_for() -> None:
    sampling = Narrow()
    sampling.most = 0
    weights, _ = over(sampling)
    with pytest.raises(PortError, match="no memory"):
        await weights.own(MODEL, None)
    sampling.close()
