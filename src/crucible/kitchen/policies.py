"""Which snapshots of the policy are open for sampling, and how do they survive a restart? The newest few, in order."""

import os
import shutil
import threading
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from crucible.errors import CheckpointError
from crucible.framework import Codec, Place, Slot, Versioned, register_codec
from crucible.framework.codec import Ready
from crucible.ports import SamplingClient
from crucible.ports.sampling_client import SamplingSession
from crucible.ports.training_client import SavedWeights

FOLDER = "policies"
"""Below `checkpoints`: what checkpoints keep of local policies."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One snapshot, open for sampling.

    index: training steps that the run had done. live: where it was saved while it was the newest; `weights.path` is
    that place, or after a restart the checkpoint's copy.
    """

    index: int
    weights: SavedWeights
    session: SamplingSession
    live: str


@dataclass(frozen=True, kw_only=True)
class Policies(Versioned):
    """A window of snapshots whose indices follow each other, the newest last. The first is of step 0."""

    entries: tuple[Policy, ...] = ()

    @property
    def newest(self) -> Policy:
        """What training has come to."""
        assert self.entries, "a policy is saved before anything is sampled"
        return self.entries[-1]

    def as_of(self, consumed: int) -> "Policies":
        """The window as it was after so many steps."""
        known = tuple(policy for policy in self.entries if policy.index <= consumed)
        assert known, f"policy {consumed} has left the window {[policy.index for policy in self.entries]}"
        return Policies(entries=known)

    def followed_by(self, policy: Policy, *, keep: int) -> tuple["Policies", tuple[Policy, ...]]:
        """(the window with a newer snapshot at its end, what has left it); `keep` snapshots stay."""
        assert keep >= 1, "the newest stays"
        several = (*(known for known in self.entries if known.index < policy.index), policy)
        return Policies(entries=several[-keep:]), several[:-keep]


def is_hosted(path: str) -> bool:
    """Whether weights are at a service, not in a folder of this machine."""
    return "://" in path


class PoliciesCodec(Codec):
    """Snapshots in a folder of this machine are linked (or copied) into the checkpoint's own folder, so that the window
    may move on; those of a service are kept as they are, by their paths, and then nobody deletes them. Loading opens
    them again."""

    cheap: ClassVar[bool] = False

    def __init__(self) -> None:
        self._referred: set[str] = set()

    def refers_to(self, path: str) -> bool:
        """Whether a checkpoint that this process has saved or loaded needs what is there."""
        return path in self._referred

    def save(self, slot: Slot[Any], value: Policies, place: Place) -> Awaitable[Any]:
        del slot
        self._referred.update(policy.live for policy in value.entries if is_hosted(policy.live))
        return Ready(
            [
                {**asdict(policy), "weights": _kept(policy, place), "live": place.recorded(policy.live)}
                for policy in value.entries
            ]
        )

    async def load(self, slot: Slot[Any], saved: Any, place: Place) -> Policies:
        try:
            known = msgspec.convert(saved, tuple[Policy, ...])
        except msgspec.ValidationError as error:
            raise CheckpointError.of(f"is no saved window of policies: {error}", where=slot.name) from error
        self._referred.update(policy.live for policy in known if is_hosted(policy.live))
        client = place.ports.get(SamplingClient.port_name)
        assert isinstance(client, SamplingClient), "a stage that opened the policies has declared the port"
        opened: list[Policy] = []
        try:
            for policy in known:
                opened.append(await _opened(client, policy, place))
        except BaseException:
            for policy in opened:
                await client.close_session(policy.session)
            raise
        return Policies(entries=tuple(opened))

    async def discard(self, saved: Any, place: Place) -> None:
        for policy in msgspec.convert(saved, tuple[Policy, ...]):
            path = policy.weights.path
            if not is_hosted(path) and _is_copy(path):
                _remove(Path(place.found(path)).parent)


async def _opened(client: SamplingClient, policy: Policy, place: Place) -> Policy:
    """The saved snapshot, open again.

    Raises:
        CheckpointError: if it is missing, or not what was saved.
    """
    weights = replace(policy.weights, path=place.found(policy.weights.path))
    session = await client.start_session(model_path=weights.path)
    if session.digest != weights.digest:
        await client.close_session(session)
        what = "this policy's content is not what was saved"
        raise CheckpointError.of(what, where=weights.path, given=session.digest[:12])
    live = policy.live
    if place.run_dir is not None and not is_hosted(live):
        live = str(place.run_dir.absolute() / live)  # of this folder, whether it is there or not: the run may be a copy
    return replace(policy, weights=weights, session=session, live=live)


def _kept(policy: Policy, place: Place) -> Mapping[str, Any]:
    weights = policy.weights
    source = Path(weights.path)
    if place.run_dir is not None and not is_hosted(weights.path) and source.is_dir():
        copy = place.run_dir / "checkpoints" / FOLDER / place.name / f"{policy.index:08d}"
        _link(source, copy)
        weights = replace(weights, path=place.recorded(str(copy)))
    return asdict(weights)


def _is_copy(path: str) -> bool:
    parts = Path(path).parts
    return len(parts) >= 3 and parts[-3] == FOLDER


def _link(source: Path, copy: Path) -> None:
    """Make `copy` a folder of the same files, whole or not at all; what a kill had left there goes."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    making = copy.with_name(f".{copy.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        shutil.copytree(source, making, copy_function=_linked)
        _remove(copy)
        making.rename(copy)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    for folder in (copy, copy.parent, copy.parent.parent):
        _sync(folder)


def _linked(source: str, copy: str) -> str:
    """A second name of the file, which is never written to again; a copy where the disk has no second names."""
    try:
        os.link(source, copy)
    except OSError:
        shutil.copy2(source, copy)
    return copy


def _remove(folder: Path) -> None:
    """Delete it, if it is there, so that no half of it stays under its name."""
    going = folder.with_name(f".deleting-{folder.name}")
    with suppress(FileNotFoundError):
        folder.rename(going)
    shutil.rmtree(going, ignore_errors=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


CODEC = PoliciesCodec()
"""The one that runs use: it knows what their checkpoints refer to."""

register_codec("policies", CODEC)
