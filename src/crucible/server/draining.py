"""What becomes of requests when the server is asked to end? None is cut off without an answer that clients know.

A poll for a result is told to try again; what comes after is told that the server is going. Everything else has as
long as uvicorn waits for it.
"""

import asyncio

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLLS = ("/retrieve_future", "/retrieve_futures")
_LATER = {"retry-after": "2", "connection": "close"}


class Draining:
    """ASGI middleware around everything else. For the event loop's thread alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._ending = False
        self._polling: set[asyncio.Task[None]] = set()

    def end(self) -> None:
        """From now on nothing new is begun, and polls are answered at once."""
        self._ending = True
        for poll in self._polling:
            poll.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless the server ends."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._ending:
            said = {"detail": "this server is being stopped", "category": "server"}
            await JSONResponse(said, status_code=503, headers=_LATER)(scope, receive, send)
        elif scope["path"].endswith(_POLLS):
            await self._poll(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _poll(self, scope: Scope, receive: Receive, send: Send) -> None:
        answered = False

        async def watched(message: Message) -> None:
            nonlocal answered
            answered = True
            self._polling.discard(task)
            await send(message)

        task = asyncio.current_task()
        assert task is not None
        self._polling.add(task)
        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            if answered or not self._ending or task.uncancel() > 0:
                raise
            said = {"type": "try_again", "queue_state": "active", "queue_state_reason": "the server is being stopped"}
            await JSONResponse(said, status_code=408, headers=_LATER)(scope, receive, send)
        finally:
            self._polling.discard(task)
