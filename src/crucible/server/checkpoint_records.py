"""What is remembered of a checkpoint? Its name, which is a plain one, its time, and what was saved."""

import re
from dataclasses import replace

from crucible.errors import CheckpointError
from crucible.ports.training_client import SavedWeights
from crucible.server.live import Live
from crucible.server.requests import SaveWeights, SaveWeightsExternal, SaveWeightsForSampler
from crucible.server.sessions import Run
from crucible.server.vault import Kept
from crucible.store.server_records import CheckpointKind, CheckpointRecord

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MOST_TTL = 10 * 366 * 24 * 3600


def check_name(name: str) -> str:
    """The name, if it may be one.

    Raises:
        CheckpointError: if it may not.
    """
    if _NAME.fullmatch(name) is None:
        raise CheckpointError.of(
            "this is no name for a checkpoint",
            given=name[:200],
            fix="Use up to 128 letters, digits, dots, dashes and underscores, a letter or digit first",
        )
    return name


def expiry(ttl_seconds: int | None, *, now: float) -> float | None:
    """When a checkpoint's time is over.

    Raises:
        ValueError: if the time to live is not from a second to ten years.
    """
    if ttl_seconds is None:
        return None
    if not 1 <= ttl_seconds <= MOST_TTL:
        raise ValueError(f"ttl_seconds is {ttl_seconds}: from 1 to {MOST_TTL} (ten years), or none")
    return now + ttl_seconds


def planned(
    live: Live,
    run: Run,
    kind: CheckpointKind,
    name: str,
    call: SaveWeights | SaveWeightsForSampler | SaveWeightsExternal,
) -> CheckpointRecord:
    """The record of a checkpoint, as far as it is known before anything is saved.

    Raises:
        CheckpointError: if it may not have this name.
        ValueError: if its time to live is out of range.
    """
    now = live.served.clock()
    return CheckpointRecord(
        run_id=run.run_id,
        kind=kind,
        name=check_name(name),
        owner=run.session.owner,
        engine_path="",
        digest="",
        policy_version=0,
        size_bytes=0,
        created_at=now,
        expires_at=expiry(call.ttl_seconds, now=now),
        user_metadata={} if isinstance(call, SaveWeightsExternal) else call.user_metadata or {},
    )


async def check_free(live: Live, record: CheckpointRecord) -> None:
    """Before the work of saving is done, that its name is not taken.

    Raises:
        CheckpointError: if it is.
    """
    find = live.served.store.checkpoint
    if await live.in_thread(find, record.run_id, record.kind, record.name, owner=record.owner) is not None:
        raise CheckpointError.of(
            "a checkpoint of this name exists", given=record.tinker_path, fix="Choose another name"
        )


def completed(record: CheckpointRecord, saved: SavedWeights, kept: Kept, *, optimizer: bool) -> CheckpointRecord:
    """The record, with what was saved."""
    return replace(
        record,
        engine_path=kept.engine_path,
        digest=saved.digest,
        policy_version=saved.policy_version,
        size_bytes=kept.size_bytes,
        optimizer=optimizer,
    )
