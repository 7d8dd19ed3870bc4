"""How does a client come and go? It opens a session, is heard of every ten seconds, and says when it ends."""

import secrets

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crucible.errors import UnsupportedError
from crucible.server.answers import answer, answered
from crucible.server.bodies import read_json
from crucible.server.futures import failed, promise
from crucible.server.live import Live
from crucible.server.refusals import Refusal
from crucible.server.requests import CreateCustomLoss, CreateSession, FinishSession, SessionHeartbeat
from crucible.server.sessions import Session
from crucible.store.server_records import EndReason, SessionRecord

_REASONS: dict[str, EndReason] = {"success": "success", "errored": "errored", "interrupted": "interrupted"}


def routes(live: Live) -> list[Route]:
    """The endpoints, without their prefix."""

    async def create_session(request: Request) -> Response:
        call, _ = await read_json(request, CreateSession, live.limits)
        owner: str = request.state.owner
        if sum(each.owner == owner for each in live.sessions.values()) >= live.limits.max_sessions:
            raise Refusal(429, f"as many sessions are open as may be ({live.limits.max_sessions})", category="server")
        session = Session(session_id=secrets.token_hex(16), owner=owner, seen_at=live.clock())
        record = SessionRecord(
            session_id=session.session_id,
            owner=owner,
            created_at=live.served.clock(),
            tags=tuple(call.tags),
            user_metadata=call.user_metadata or {},
            sdk_version=call.sdk_version,
            project_id=call.project_id,
            display_name=call.display_name,
        )
        await live.in_thread(live.served.store.add_session, record)
        live.sessions[session.session_id] = session
        return answer({"type": "create_session", "session_id": session.session_id})

    async def session_heartbeat(request: Request) -> Response:
        call, _ = await read_json(request, SessionHeartbeat, live.limits)
        await live.session(call.session_id, request.state.owner)
        return answer({"type": "session_heartbeat"})

    async def finish_session(request: Request) -> Response:
        call, _ = await read_json(request, FinishSession, live.limits)
        session_id, owner = request.path_params["session_id"], request.state.owner
        reason = _REASONS.get(call.reason.type)
        if reason is None:
            raise Refusal(400, f"a session ends with one of {', '.join(_REASONS)}")
        session = live.sessions.get(session_id)
        if session is not None and session.owner == owner:
            live.end(session, reason=reason, detail=call.detail or "")
        elif await live.in_thread(live.served.store.session, session_id, owner=owner) is None:
            raise Refusal(404, f"there is no session {session_id[:100]!r}")
        return Response(status_code=204)

    async def create_custom_loss(request: Request) -> Response:
        call, _ = await read_json(request, CreateCustomLoss, live.limits)
        session = await live.session(call.session_id, request.state.owner)
        unsupported = UnsupportedError.of(
            "a custom loss is not run on this server", fix="forward_backward_custom runs it in the client"
        )
        return promise(failed(live, session.owner, unsupported))

    return [
        Route("/session_heartbeat", answered(session_heartbeat), methods=["POST"]),
        Route("/create_session", answered(create_session), methods=["POST"]),
        Route("/sessions/{session_id}/finish", answered(finish_session), methods=["POST"]),
        Route("/create_custom_loss", answered(create_custom_loss), methods=["POST"]),
    ]
