"""What can be done with a saved checkpoint? List, publish, expire, copy, delete and download it."""

import asyncio
import hashlib
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Annotated, cast
from urllib.parse import quote
from uuid import uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from crucible.server.answers import answered
from crucible.server.archive import ARCHIVE, archived
from crucible.server.bodies import read_json
from crucible.server.refusals import Refusal
from crucible.server.rest_json import checkpoint_json, cursor_json, moment, page_of, weights_info_json
from crucible.server.served import Served
from crucible.server.signing import Signer
from crucible.server.tinker_path import TinkerPath, parse_path
from crucible.store.server_records import CHECKPOINT_KINDS, CheckpointKind, CheckpointRecord, RunRecord

_PAGE_OF_CHECKPOINTS = 100
_TEN_YEARS = 10 * 366 * 86400
_Ttl = Annotated[int, msgspec.Meta(ge=1, le=_TEN_YEARS)]
_OF_ONE = "/training_runs/{run_id}/checkpoints/{kind}/{name}"


def routes(served: Served) -> list[Route]:
    """The routes, without the prefix that they are mounted below. But for the download they need
    `request.state.owner`."""
    checkpoints = _Checkpoints(served)
    return [
        Route("/checkpoints", answered(checkpoints.list_all)),
        Route("/training_runs/{run_id}/checkpoints", answered(checkpoints.list_of_run)),
        Route(_OF_ONE, answered(checkpoints.delete), methods=["DELETE"]),
        Route(f"{_OF_ONE}/publish", answered(checkpoints.publish), methods=["POST", "DELETE"]),
        Route(f"{_OF_ONE}/ttl", answered(checkpoints.set_ttl), methods=["PUT"]),
        Route(f"{_OF_ONE}/external_weights_urls", answered(checkpoints.get_urls)),
        Route(f"{_OF_ONE}/archive", answered(checkpoints.get_archive_url)),
        Route("/weights_info", answered(checkpoints.weights_info), methods=["POST"]),
        Route("/copy_weights", answered(checkpoints.copy), methods=["POST"]),
        Route("/signed_downloads/{token}/{file}", answered(checkpoints.download)),
    ]


class _WeightsInfo(msgspec.Struct):
    tinker_path: str


class _SetTtl(msgspec.Struct):
    ttl_seconds: _Ttl | None


class _Copy(msgspec.Struct):
    source_path: str
    session_id: str | None = None
    model_seq_id: Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)] | None = None
    destination_project_id: str | None = None
    ttl_seconds: _Ttl | None = None
    weights_access_token: str | None = None


class _Checkpoints:
    """The handlers; one object, so that they share what is served and the key that URLs are signed with."""

    def __init__(self, served: Served) -> None:
        self._served, self._store, self._vault = served, served.store, served.vault
        self._signer = Signer(clock=served.clock)
        self._copying = asyncio.Lock()

    async def list_all(self, request: Request) -> Response:
        """GET /checkpoints?limit&offset"""
        limit, offset = page_of(request, limit=_PAGE_OF_CHECKPOINTS)
        page = await asyncio.to_thread(self._store.checkpoints, owner=request.state.owner, limit=limit, offset=offset)
        cursor = cursor_json(page, limit=limit, offset=offset)
        return JSONResponse({"checkpoints": [checkpoint_json(record) for record in page.items], "cursor": cursor})

    async def list_of_run(self, request: Request) -> Response:
        """GET /training_runs/{id}/checkpoints: all of them"""
        owner: str = request.state.owner
        run_id: str = request.path_params["run_id"]

        def read() -> list[CheckpointRecord]:
            if self._store.run(run_id, owner=owner) is None:
                raise Refusal(404, "there is no such training run")
            return self._store.checkpoints_of_runs([run_id], owner=owner)[run_id]

        found = await asyncio.to_thread(read)
        return JSONResponse({"checkpoints": [checkpoint_json(record) for record in found], "cursor": None})

    async def delete(self, request: Request) -> Response:
        """DELETE a checkpoint: its files too, unless a copy has them."""
        record = await self._own(request)
        if not await asyncio.to_thread(self._vault.forget, record):
            raise _no_checkpoint()
        return Response(status_code=204)

    async def publish(self, request: Request) -> Response:
        """POST and DELETE .../publish: whether every key of this server may read it."""
        record = await self._own(request)
        await asyncio.to_thread(self._store.set_public, record, public=request.method == "POST")
        return Response(status_code=204)

    async def set_ttl(self, request: Request) -> Response:
        """PUT .../ttl"""
        asked, _ = await read_json(request, _SetTtl, self._served.limits)
        record = await self._own(request)
        await asyncio.to_thread(self._store.set_ttl, record, expires_at=self._expiry(asked.ttl_seconds))
        return Response(status_code=204)

    async def weights_info(self, request: Request) -> Response:
        """POST /weights_info"""
        asked, _ = await read_json(request, _WeightsInfo, self._served.limits)
        record = await self._seen(parse_path(asked.tinker_path), request.state.owner)
        return JSONResponse(weights_info_json(await asyncio.to_thread(self._store.run_of, record)))

    async def copy(self, request: Request) -> Response:
        """POST /copy_weights: a record in a run of its own, which has the same files and cannot be trained."""
        asked, _ = await read_json(request, _Copy, self._served.limits)
        owner: str = request.state.owner
        if asked.weights_access_token or request.headers.get("x-tinker-weights-access-token"):
            raise Refusal(400, "UnsupportedError: weights_access_token: there are no accounts to copy from here")
        source = await self._seen(parse_path(asked.source_path), owner)
        run_id = self._copy_id(asked, request)
        async with self._copying:  # the SDK sends a copy again with the same key, and gets the same copy
            return JSONResponse({"tinker_path": await asyncio.to_thread(self._copy, asked, source, run_id, owner)})

    async def get_urls(self, request: Request) -> Response:
        """GET .../external_weights_urls: of each file a URL that needs no key."""
        record = await self._seen(_path(request), request.state.owner)
        if record.kind != "external_weights":
            raise Refusal(400, "only external weights can be downloaded; save them with save_weights_external")
        files = await asyncio.to_thread(self._vault.files, record)
        expires = self._served.clock() + self._served.limits.url_ttl
        urls = {name: self._url(request, record, name, expires) for name in files}
        return JSONResponse({"urls": urls, "expires": moment(expires)})

    async def get_archive_url(self, request: Request) -> Response:
        """GET .../archive, as SDKs before 0.36 call it: where the checkpoint can be had as one tar."""
        record = await self._seen(_path(request), request.state.owner)
        await asyncio.to_thread(self._vault.files, record)
        expires = self._served.clock() + self._served.limits.url_ttl
        headers = {
            "Location": self._url(request, record, ARCHIVE, expires),
            "Expires": formatdate(expires, usegmt=True),
        }
        return Response(status_code=302, headers=headers)

    async def download(self, request: Request) -> Response:
        """GET a file by its signed URL. What is signed is the record's own words: no path is read from the URL."""
        words = self._signer.read(request.path_params["token"])
        if words is None:
            raise Refusal(403, "this URL is not valid, or its time is over: ask for another")
        run_id, kind, name, owner, file = words
        path = TinkerPath(run_id=run_id, kind=cast(CheckpointKind, kind), name=name)
        record = await self._seen(path, owner)
        files: dict[str, Path] = await asyncio.to_thread(self._vault.files, record)
        if request.path_params["file"] != file:
            raise Refusal(404, "there is no such file")
        if file == ARCHIVE:
            headers = {"Content-Disposition": f'attachment; filename="{ARCHIVE}"'}
            return StreamingResponse(archived(files), media_type="application/x-tar", headers=headers)
        if file not in files:
            raise Refusal(404, "there is no such file")
        return FileResponse(files[file], filename=file, media_type="application/octet-stream")

    def _url(self, request: Request, record: CheckpointRecord, file: str, expires: float) -> str:
        words = (record.run_id, record.kind, record.name, request.state.owner, file)
        token = self._signer.sign(words, expires_at=expires)
        prefix = request.url.path.partition("/training_runs/")[0]
        return f"{request.url.scheme}://{request.url.netloc}{prefix}/signed_downloads/{token}/{quote(file)}"

    async def _own(self, request: Request) -> CheckpointRecord:
        """The checkpoint that a path names, if it is the caller's: others may read a public one, and no more."""
        record = await self._seen(_path(request), request.state.owner)
        if record.owner != request.state.owner:
            raise Refusal(403, "CheckpointError: this checkpoint is public, and another's: it can only be read")
        return record

    async def _seen(self, path: TinkerPath, owner: str) -> CheckpointRecord:
        record = await asyncio.to_thread(self._store.checkpoint, path.run_id, path.kind, path.name, owner=owner)
        if record is None:
            raise _no_checkpoint()
        return record

    def _expiry(self, ttl: int | None) -> float | None:
        return None if ttl is None else self._served.clock() + ttl

    def _copy_id(self, asked: _Copy, request: Request) -> str:
        """The id of the copy's run: of the slot in the session, or of the request's own key."""
        if (asked.session_id is None) != (asked.model_seq_id is None):
            raise Refusal(400, "session_id and model_seq_id are given together, or not at all")
        if asked.session_id is not None:
            return f"{asked.session_id}:train:{asked.model_seq_id}"
        key = request.headers.get("x-idempotency-key") or uuid4().hex
        asker = f"{request.state.owner} {key}"
        return f"copy-{hashlib.sha256(asker.encode()).hexdigest()[:32]}"

    def _copy(self, asked: _Copy, source: CheckpointRecord, run_id: str, owner: str) -> str:
        project_id = asked.destination_project_id
        if asked.session_id is not None:
            session = self._store.session(asked.session_id, owner=owner)
            if session is None:
                raise Refusal(404, "there is no such session")
            project_id = session.project_id
        now = self._served.clock()
        copy = replace(
            source,
            run_id=run_id,
            owner=owner,
            created_at=now,
            expires_at=self._expiry(asked.ttl_seconds),
            public=False,
        )
        if self._store.run(run_id, owner=owner) is not None:
            made = self._store.checkpoint(run_id, source.kind, source.name, owner=owner)
            if made is None or made.engine_path != source.engine_path:
                raise Refusal(400, "there is a run in that place of the session already")
            return made.tinker_path
        run = _copied_run(self._store.run_of(source), asked, copy, project_id)
        self._store.add_run(run)
        self._vault.share(source, copy)
        return copy.tinker_path


def _path(request: Request) -> TinkerPath:
    kind: str = request.path_params["kind"]
    if kind not in CHECKPOINT_KINDS:
        raise Refusal(404, f"a checkpoint is one of {', '.join(CHECKPOINT_KINDS)}")
    return TinkerPath(run_id=request.path_params["run_id"], kind=kind, name=request.path_params["name"])


def _no_checkpoint() -> Refusal:
    """The answer for what does not exist, what has expired, and what is another's."""
    return Refusal(404, "CheckpointError: there is no such checkpoint, or it expired")


def _copied_run(source: RunRecord, asked: _Copy, copy: CheckpointRecord, project_id: str | None) -> RunRecord:
    return RunRecord(
        run_id=copy.run_id,
        owner=copy.owner,
        session_id=asked.session_id,
        base_model=source.base_model,
        reference=source.reference,
        lora=source.lora,
        created_at=copy.created_at,
        last_request_at=copy.created_at,
        user_metadata={"copied_from": asked.source_path},
        project_id=project_id,
    )
