"""What are requests answered that are under way when the server is asked to end, or that come after?"""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from crucible.server.draining import Draining


async def _ask(app: Draining, path: str) -> tuple[int, bytes]:
    """The status and body of an answer."""
    answered: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        answered.append(message)

    await app({"type": "http", "method": "POST", "path": path, "headers": []}, receive, send)
    return answered[0]["status"], answered[-1]["body"]


async def _forever(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("path", ["/api/v1/retrieve_future", "/api/v1/retrieve_futures"])
async def test_a_poll_is_told_to_try_again(path: str) -> None:
    app = Draining(_forever)
    polls = [asyncio.create_task(_ask(app, path)) for _ in range(100)]
    await asyncio.sleep(0)
    app.end()
    answers = await asyncio.gather(*polls)
    assert {status for status, _ in answers} == {408}
    assert all(b'"try_again"' in body for _, body in answers)


async def test_what_comes_after_is_told_that_the_server_is_going() -> None:
    app = Draining(_forever)
    app.end()
    status, body = await _ask(app, "/api/v1/asample")
    assert (status, b"being stopped" in body) == (503, True)


async def test_what_was_begun_is_ended() -> None:
    going = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await going.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    app = Draining(slow)
    begun = asyncio.create_task(_ask(app, "/api/v1/save_weights"))
    await asyncio.sleep(0)
    app.end()
    going.set()
    assert await begun == (200, b"done")


async def test_a_poll_whose_client_is_gone_is_cancelled_as_ever() -> None:
    poll = asyncio.create_task(_ask(Draining(_forever), "/api/v1/retrieve_future"))
    await asyncio.sleep(0)
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
