"""The window of policies: what stays open, what a checkpoint keeps of it, and what comes back."""

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from crucible.errors import CheckpointError
from crucible.framework import Place
from crucible.kitchen.policies import Policies, PoliciesCodec
from crucible.kitchen.rl_slots import POLICIES
from crucible.kitchen.rolling import LiveWork
from crucible.kitchen.stages.sampling import closed, snapshot
from crucible.ports.training_client import AdamParams, SessionConfig
from crucible.testing.fakes import FakeBackend


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[FakeBackend]:
    made = FakeBackend(checkpoint_dir=tmp_path / "checkpoints")
    yield made
    made.close()


@pytest.fixture
def place(backend: FakeBackend, tmp_path: Path) -> Place:
    ports = {"training_client": backend.training_client, "sampling_client": backend.sampling_client}
    return Place(name="step-000002.policies", run_dir=tmp_path, ports=ports)


def three(backend: FakeBackend, *, keep: int) -> Policies:
    """The window after three snapshots, each of another optimizer step."""

    async def save() -> Policies:
        training, sampling = backend.training_client, backend.sampling_client
        session = await training.start_session(SessionConfig(model="fake/model"))
        window, live = Policies(), LiveWork()
        for index in range(3):
            policy = await snapshot(training, sampling, session, index=index, live=live)
            window, left = window.followed_by(policy, keep=keep)
            await closed(training, sampling, left, live=live)
            await training.optim_step(session, AdamParams())
        return window

    return asyncio.run(save())


async def saved_of(window: Policies, place: Place, codec: PoliciesCodec | None = None):
    return await (codec or PoliciesCodec()).save(POLICIES, window, place)


async def loaded_of(saved: object, place: Place) -> Policies:
    return await PoliciesCodec().load(POLICIES, saved, place)


def test_a_window_keeps_the_newest_and_deletes_what_leaves_it(backend: FakeBackend) -> None:
    window = three(backend, keep=2)
    assert [policy.index for policy in window.entries] == [1, 2]
    assert [Path(policy.live).exists() for policy in window.entries] == [True, True]
    assert not Path(window.entries[0].live.replace("00000001", "00000000")).exists()


def test_an_earlier_window_ends_with_an_earlier_policy(backend: FakeBackend) -> None:
    window = three(backend, keep=3)
    assert [window.as_of(consumed).newest.index for consumed in (0, 1, 2, 7)] == [0, 1, 2, 2]


def test_what_a_checkpoint_keeps_outlives_the_policies_themselves(backend: FakeBackend, place: Place) -> None:
    window = three(backend, keep=2)
    saved = asyncio.run(saved_of(window, place))
    asyncio.run(closed(backend.training_client, backend.sampling_client, window.entries, live=LiveWork()))
    back = asyncio.run(loaded_of(saved, place))
    assert [policy.session.digest for policy in back.entries] == [one.weights.digest for one in window.entries]
    assert [policy.live for policy in back.entries] == [one.live for one in window.entries]


def test_the_folder_may_move(backend: FakeBackend, place: Place) -> None:
    saved = asyncio.run(saved_of(three(backend, keep=1), place))
    assert not Path(saved[0]["weights"]["path"]).is_absolute()


def test_other_weights_under_a_policys_path_are_refused(backend: FakeBackend, place: Place) -> None:
    window = three(backend, keep=2)
    wrong = replace(window.newest, weights=replace(window.newest.weights, digest=window.entries[0].weights.digest))
    saved = asyncio.run(saved_of(Policies(entries=(wrong,)), place))
    with pytest.raises(CheckpointError, match="not what was saved"):
        asyncio.run(loaded_of(saved, place))


def test_what_is_no_window_is_refused(place: Place) -> None:
    with pytest.raises(CheckpointError, match="no saved window"):
        asyncio.run(loaded_of([{"index": "x"}], place))


def test_a_discarded_checkpoint_leaves_nothing(backend: FakeBackend, place: Place, tmp_path: Path) -> None:
    window = three(backend, keep=2)
    saved = asyncio.run(saved_of(window, place))
    folder = tmp_path / "checkpoints" / "policies"
    assert len(list(folder.iterdir())) == 1
    asyncio.run(PoliciesCodec().discard(saved, place))
    assert not list(folder.iterdir()) and Path(window.newest.live).exists()


def test_of_a_service_a_path_is_kept_as_it_is_and_known_to_be_needed(backend: FakeBackend, place: Place) -> None:
    policy, path, codec = three(backend, keep=1).newest, "tinker://run/sampler_weights/policy", PoliciesCodec()
    hosted = replace(policy, live=path, weights=replace(policy.weights, path=path))
    assert not codec.refers_to(path)
    saved = asyncio.run(saved_of(Policies(entries=(hosted,)), place, codec))
    assert saved[0]["weights"]["path"] == path and codec.refers_to(path)


def test_a_copied_run_deletes_its_own_policies_and_not_those_of_the_run_it_was_copied_from(
    backend: FakeBackend, place: Place, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    window = three(backend, keep=1)
    saved = asyncio.run(saved_of(window, place))
    copied = shutil.copytree(tmp_path, tmp_path_factory.mktemp("other") / "run")
    back = asyncio.run(loaded_of(saved, replace(place, run_dir=copied)))
    asyncio.run(closed(backend.training_client, backend.sampling_client, back.entries, live=LiveWork()))
    assert Path(window.newest.live).exists() and Path(back.newest.live).is_relative_to(copied)
