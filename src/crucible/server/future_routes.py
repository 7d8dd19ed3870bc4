"""How does a client learn the outcome of a request? It asks, and is answered when the outcome is there.

A question is held for `limits.hold_seconds`; then the answer is 408 with a body that says to ask again, which the SDK
does at once and silently. Nothing runs while a question is held: thousands of them cost some memory alone.
"""

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crucible.server.answers import answer, answered
from crucible.server.bodies import read_json
from crucible.server.completions import Completion
from crucible.server.live import Live
from crucible.server.refusals import Failure
from crucible.server.requests import CancelFuture, RetrieveFuture, RetrieveFutures
from crucible.server.results import Result

INLINE = 1 << 20
"""An outcome of more bytes is announced first, if the client allows it: it then bounds how many it fetches at once."""
QUICK = 0.5
"""Seconds that a question waits before the server looks whether its client is still there."""
AT_ONCE = 1000


def routes(live: Live) -> list[Route]:
    """The endpoints, without their prefix."""

    async def retrieve_future(request: Request) -> Response:
        call, _ = await read_json(request, RetrieveFuture, live.limits)
        result = live.results.find(call.request_id, request.state.owner)
        if not result.done and not await _held(live, request, result):
            again = {
                "type": "try_again",
                "request_id": result.request_id,
                "queue_state": "paused_capacity" if live.capacity.waiting else "active",
                "queue_state_reason": "the server's memory is full" if live.capacity.waiting else None,
            }
            return answer(again, status=408)
        if result.payload is None:  # there were so many others that it went at once
            raise live.results.gone(result.request_id)
        if call.allow_metadata_only and len(result.payload.body) > INLINE:
            return answer({"status": "complete_metadata", "response_payload_size": len(result.payload.body)})
        result.read = True
        return Response(result.payload.body, media_type=result.payload.media_type)

    async def retrieve_futures(request: Request) -> Response:
        call, _ = await read_json(request, RetrieveFutures, live.limits)
        owner: str = request.state.owner
        sampler = await live.sampler(call.target.sampling_session_id, owner)
        for request_id in call.retrieved_request_ids:
            live.results.drop(request_id, owner)
        completions = sampler.completions_of(call.target.cloned_sampler_id)
        hold = live.limits.hold_seconds
        seconds = hold if call.timeout is None else max(0.0, min(call.timeout, hold))
        done = (await completions.after(call.prev_cursor, seconds=seconds))[:AT_ONCE]
        cursor = done[-1].cursor if done else max(call.prev_cursor, completions.cursor)
        return answer({"completions": [_told(each) for each in done], "cursor": cursor})

    async def cancel_future(request: Request) -> Response:
        call, _ = await read_json(request, CancelFuture, live.limits)
        result = live.results.find(call.request_id, request.state.owner)
        live.results.fail(result, Failure(error="the request was cancelled by its client", category="user"))
        return Response(status_code=204)

    endpoints = {
        "/retrieve_future": retrieve_future,
        "/retrieve_futures": retrieve_futures,
        "/cancel_future": cancel_future,
    }
    return [Route(path, answered(endpoint), methods=["POST"]) for path, endpoint in endpoints.items()]


async def _held(live: Live, request: Request, result: Result) -> bool:
    """Wait for the outcome as long as may be, or until the client is gone; False if it is not there then."""
    hold = live.limits.hold_seconds
    if await live.results.wait(result, min(QUICK, hold)):
        return True
    gone = asyncio.create_task(_gone(request))
    there = asyncio.create_task(live.results.wait(result, max(0.0, hold - QUICK)))
    try:
        await asyncio.wait((gone, there), return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        if not there.done():
            there.cancel()
    return result.done


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _told(done: Completion) -> dict[str, object]:
    if done.failed:
        return {"state": "failed", "request_id": done.request_id}
    return {"state": "finished", "request_id": done.request_id, "response_payload_uncompressed_size": done.size}
