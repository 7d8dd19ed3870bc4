"""What can be asked about runs, sessions, keys and accounts?"""

import asyncio
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crucible.server import checkpoint_routes
from crucible.server.answers import answered
from crucible.server.bodies import read_json
from crucible.server.refusals import Refusal
from crucible.server.rest_json import (
    check_scope,
    cursor_json,
    moment,
    page_of,
    run_json,
    session_summary_json,
    texts_or_none,
)
from crucible.server.served import Served
from crucible.store.server_records import LOCAL
from crucible.store.server_search import FINISHED, SessionSearch, search_sessions

_PAGE_OF_RUNS = 20
_PAGE_OF_SESSIONS = 20


def routes(served: Served) -> list[Route]:
    """The routes, without the prefix that they are mounted below. They need `request.state.owner`."""
    rest = _Rest(served)
    return [
        Route("/training_runs", answered(rest.list_runs)),
        Route("/training_runs/{run_id}", answered(rest.get_run)),
        Route("/sessions", answered(rest.list_sessions)),
        Route("/sessions/search", answered(rest.search), methods=["POST"]),
        Route("/sessions/{session_id}", answered(rest.get_session)),
        Route("/sessions/{session_id}/project", answered(rest.assign_project), methods=["PUT"]),
        Route("/sessions/{session_id}/trace_export", answered(rest.export_trace)),
        Route("/auth/apikey/me", answered(rest.get_key), methods=["GET"]),
        Route("/auth/apikey/me", answered(rest.revoke_key), methods=["DELETE"]),
        Route("/audit", answered(rest.get_audit_log)),
        Route("/billing/usage/events", answered(rest.get_billing_usage)),
        Route("/billing/usage/checkpoints/current", answered(rest.get_storage_usage)),
        *checkpoint_routes.routes(served),
    ]


class _Cursor(msgspec.Struct):
    last_created_at: Annotated[datetime, msgspec.Meta(tz=True)]
    last_session_id: str


class _Status(msgspec.Struct):
    type: Literal["active", "cancelled", "failed", "client_finished"]
    reasons: list[Literal["success", "errored", "interrupted"]] | None = None


class _Owner(msgspec.Struct):
    type: Literal["own", "accessible", "user"] = "own"
    owner_urns: list[str] | None = None


class _Search(msgspec.Struct):
    session_id: str | None = None
    project_ids: list[str] | None = None
    user_metadata: dict[str, str] | None = None
    display_name: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    owner: _Owner | None = None
    statuses: list[_Status] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50
    cursor: _Cursor | None = None


class _Project(msgspec.Struct):
    project_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class _Rest:
    """The handlers; one object, so that they share what is served."""

    def __init__(self, served: Served) -> None:
        self._served, self._store = served, served.store

    async def list_runs(self, request: Request) -> Response:
        """GET /training_runs?limit&offset&access_scope&project_id"""
        check_scope(request)
        owner: str = request.state.owner
        limit, offset = page_of(request, limit=_PAGE_OF_RUNS)
        project_id = request.query_params.get("project_id")

        def read() -> dict[str, Any]:
            page = self._store.runs(owner=owner, limit=limit, offset=offset, project_id=project_id)
            saved = self._store.checkpoints_of_runs([run.run_id for run in page.items], owner=owner)
            runs = [run_json(run, saved[run.run_id]) for run in page.items]
            return {"training_runs": runs, "cursor": cursor_json(page, limit=limit, offset=offset)}

        return JSONResponse(await asyncio.to_thread(read))

    async def get_run(self, request: Request) -> Response:
        """GET /training_runs/{id}"""
        check_scope(request)
        owner: str = request.state.owner
        run_id: str = request.path_params["run_id"]

        def read() -> dict[str, Any]:
            run = self._store.run(run_id, owner=owner)
            if run is None:
                raise no_run()
            return run_json(run, self._store.checkpoints_of_runs([run_id], owner=owner)[run_id])

        return JSONResponse(await asyncio.to_thread(read))

    async def list_sessions(self, request: Request) -> Response:
        """GET /sessions?limit&offset&access_scope"""
        check_scope(request)
        limit, offset = page_of(request, limit=_PAGE_OF_SESSIONS)
        page = await asyncio.to_thread(self._store.sessions, owner=request.state.owner, limit=limit, offset=offset)
        return JSONResponse({"sessions": [session.session_id for session in page.items]})

    async def get_session(self, request: Request) -> Response:
        """GET /sessions/{id}"""
        check_scope(request)
        owner: str = request.state.owner
        session_id: str = request.path_params["session_id"]

        def read() -> dict[str, Any]:
            session = self._store.session(session_id, owner=owner)
            if session is None:
                raise _no_session()
            runs = self._store.runs_of_session(session_id, owner=owner)
            samplers = self._store.samplers_of_session(session_id, owner=owner)
            return {
                "training_run_ids": [run.run_id for run in runs],
                "sampler_ids": [sampler.sampler_id for sampler in samplers],
                "user_metadata": session.user_metadata or None,
                "display_name": session.display_name,
            }

        return JSONResponse(await asyncio.to_thread(read))

    async def search(self, request: Request) -> Response:
        """POST /sessions/search"""
        asked, _ = await read_json(request, _Search, self._served.limits)
        owner: str = request.state.owner
        if asked.owner is not None and asked.owner.type == "user" and owner not in (asked.owner.owner_urns or ()):
            return JSONResponse({"sessions": [], "next_cursor": None})  # others' sessions are nobody's to search
        search = _search(asked)
        found = await asyncio.to_thread(search_sessions, self._store, search, owner=owner, limit=asked.limit + 1)
        page, more = found[: asked.limit], found[asked.limit :]
        last = page[-1].session if more else None
        following = last and {"last_created_at": moment(last.created_at), "last_session_id": last.session_id}
        return JSONResponse({"sessions": [session_summary_json(one) for one in page], "next_cursor": following})

    async def assign_project(self, request: Request) -> Response:
        """PUT /sessions/{id}/project"""
        asked, _ = await read_json(request, _Project, self._served.limits)
        session_id: str = request.path_params["session_id"]
        owner: str = request.state.owner
        if not await asyncio.to_thread(self._store.assign_project, session_id, asked.project_id, owner=owner):
            raise _no_session()
        return Response(status_code=204)

    async def export_trace(self, request: Request) -> Response:
        """GET /sessions/{id}/trace_export: there is none to give, which the SDK's user reads as it is said here."""
        session_id: str = request.path_params["session_id"]
        if await asyncio.to_thread(self._store.session, session_id, owner=request.state.owner) is None:
            raise _no_session()
        said = "UnsupportedError: this server records no traces of sessions"
        return JSONResponse({"status": "failed", "url": None, "error": said})

    async def get_key(self, request: Request) -> Response:
        """GET /auth/apikey/me: the key's number is its id read as one, since the SDK wants a number."""
        owner: str = request.state.owner
        if owner == LOCAL:
            key_id, name, note = 0, LOCAL, "this server has no keys and takes any"
        else:
            keys = await asyncio.to_thread(self._store.keys.all)
            key = next(key for key in keys if key.key_id == owner)
            key_id, name, note = int(key.key_id, 16), key.name, ""
        details = {"org_details": {"name": "crucible"}, "user_details": {"email": name}}
        return JSONResponse({"key_id": key_id, "name": name, "note": note, "details": details})

    async def revoke_key(self, request: Request) -> Response:
        """DELETE /auth/apikey/me: the key that asks, and no other."""
        owner: str = request.state.owner
        if owner == LOCAL:
            raise Refusal(404, "this server has no keys to delete: it takes any")

        def revoke() -> None:
            name = next(key.name for key in self._store.keys.all() if key.key_id == owner)
            self._store.keys.revoke(name)

        await asyncio.to_thread(revoke)
        return Response(status_code=204)

    async def get_audit_log(self, request: Request) -> Response:
        """GET /audit"""
        del request
        raise Refusal(403, "UnsupportedError: this server keeps no audit log")

    async def get_billing_usage(self, request: Request) -> Response:
        """GET /billing/usage/events"""
        del request
        raise Refusal(403, "UnsupportedError: this server bills nothing and counts no usage")

    async def get_storage_usage(self, request: Request) -> Response:
        """GET /billing/usage/checkpoints/current: the caller's own; what it costs is not known here."""
        owner: str = request.state.owner
        wanted = request.query_params.get("project_id")
        usage = await asyncio.to_thread(self._store.storage, owner=owner)
        rows = [
            {
                "project_id": project_id,
                "org_user_urn": owner,
                "checkpoint_count": count,
                "size_bytes": size,
                "size_gigabytes": size / 1e9,
                "estimated_monthly_cost_usd": None,
            }
            for project_id, count, size in usage
            if wanted in (None, project_id)
        ]
        return JSONResponse({"effective_rate_usd_per_gigabyte_month": None, "data": rows})


def no_run() -> Refusal:
    """The answer for a run that does not exist, and for another key's."""
    return Refusal(404, "there is no such training run")


def _no_session() -> Refusal:
    return Refusal(404, "there is no such session")


def _search(asked: _Search) -> SessionSearch:
    active, finished = None, None
    if asked.statuses is not None:
        active = any(status.type == "active" for status in asked.statuses)
        named = [status.reasons or FINISHED for status in asked.statuses if status.type == "client_finished"]
        finished = tuple(reason for reasons in named for reason in reasons)
    after = asked.cursor
    return SessionSearch(
        session_id=asked.session_id,
        display_name=asked.display_name,
        project_ids=texts_or_none(asked.project_ids),
        user_metadata=asked.user_metadata or {},
        active=active,
        finished=finished,
        after=None if after is None else (after.last_created_at.timestamp(), after.last_session_id),
    )
