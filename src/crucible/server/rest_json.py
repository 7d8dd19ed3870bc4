"""How are runs, checkpoints and sessions told to clients? JSON as the SDK's types read it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from crucible.server.refusals import Refusal
from crucible.store.server_records import CheckpointKind, CheckpointRecord, Page, RunRecord, SessionRecord
from crucible.store.server_search import FINISHED, FoundSession

_TYPES: Mapping[CheckpointKind, str] = {
    "weights": "training",
    "sampler_weights": "sampler",
    "external_weights": "external",
}
_MOST_ON_A_PAGE = 1000
_SCOPES = ("owned", "accessible")


def moment(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def labels(metadata: Mapping[str, Any]) -> dict[str, str] | None:
    """A client's metadata with texts as values, which is what the SDK reads; None where there is none."""
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    return texts or None


def checkpoint_json(record: CheckpointRecord) -> dict[str, Any]:
    """A checkpoint, as the SDK's `Checkpoint`."""
    return {
        "checkpoint_id": f"{record.kind}/{record.name}",
        "checkpoint_type": _TYPES[record.kind],
        "time": moment(record.created_at),
        "tinker_path": record.tinker_path,
        "size_bytes": record.size_bytes,
        "public": record.public,
        "user_metadata": labels(record.user_metadata),
        "expires_at": None if record.expires_at is None else moment(record.expires_at),
    }


def run_json(run: RunRecord, checkpoints: Sequence[CheckpointRecord]) -> dict[str, Any]:
    """A run, as the SDK's `TrainingRun`. checkpoints: the run's, the oldest first."""
    latest = {record.kind: checkpoint_json(record) for record in checkpoints}
    return {
        "training_run_id": run.run_id,
        "base_model": run.base_model,
        "model_owner": run.owner,
        "is_lora": True,
        "corrupted": False,
        "lora_rank": run.lora["rank"],
        "last_request_time": moment(run.last_request_at),
        "last_checkpoint": latest.get("weights"),
        "last_sampler_checkpoint": latest.get("sampler_weights"),
        "user_metadata": labels(run.user_metadata),
    }


def weights_info_json(run: RunRecord) -> dict[str, Any]:
    """What is needed to load a run's checkpoints, as the SDK's `WeightsInfoResponse`."""
    return {
        "base_model": run.base_model,
        "optimizer_config": {"type": "adamw"},
        "is_lora": True,
        "lora_rank": run.lora["rank"],
        "train_unembed": run.lora["train_unembed"],
        "train_mlp": run.lora["train_mlp"],
        "train_attn": run.lora["train_attn"],
    }


def session_summary_json(found: FoundSession) -> dict[str, Any]:
    """A session that was searched for, as the SDK's `SessionSummary`. A session without a project is in `""`."""
    session = found.session
    return {
        "session_id": session.session_id,
        "created_at": moment(session.created_at),
        "owner": session.owner,
        "project_id": session.project_id or "",
        "status": _status(session),
        "checkpoints_count": found.checkpoints,
        "display_name": session.display_name,
        "user_metadata": labels(session.user_metadata),
        "checkpoint_storage_bytes": found.size_bytes,
    }


def cursor_json(page: Page[Any], *, limit: int, offset: int) -> dict[str, int]:
    """Where a page lies in the whole."""
    return {"offset": offset, "limit": limit, "total_count": page.total}


def page_of(request: Request, *, limit: int) -> tuple[int, int]:
    """The limit and offset that a request asks for; a larger limit than we give is one that we give.

    Raises:
        Refusal: 400 if either is no whole number, or negative.
    """
    return min(_count(request, "limit", limit), _MOST_ON_A_PAGE), _count(request, "offset", 0)


def check_scope(request: Request) -> None:
    """Both scopes mean the same here: a key sees what is its own.

    Raises:
        Refusal: 400 for another scope.
    """
    scope = request.query_params.get("access_scope", "owned")
    if scope not in _SCOPES:
        raise Refusal(400, f"access_scope is one of {', '.join(_SCOPES)}, not {scope[:50]!r}")


def texts_or_none(values: Iterable[str] | None) -> tuple[str, ...] | None:
    """A list that may be absent."""
    return None if values is None else tuple(values)


def _count(request: Request, name: str, default: int) -> int:
    given = request.query_params.get(name, str(default))
    if not (given.isascii() and given.isdecimal() and len(given) <= 9):
        raise Refusal(400, f"{name} is a whole number of at most nine digits, not {given[:50]!r}")
    return int(given)


def _status(session: SessionRecord) -> dict[str, Any] | None:
    """None where the session neither finished nor runs: its client, or the server, was gone."""
    if session.ended_at is None:
        return {"type": "active"}
    if session.end_reason not in FINISHED:
        return None
    return {
        "type": "client_finished",
        "reason": {"type": session.end_reason},
        "detail": session.end_detail or None,
    }
