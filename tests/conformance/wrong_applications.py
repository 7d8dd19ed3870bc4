"""How can an application around the engine be wrong? One class per fault, around the right one."""

import asyncio
import json
from collections import defaultdict
from typing import Any

from crucible.server.wire import messages_pb2 as pb


class Around:
    """An application around another one that may rewrite a request's body, or answer itself."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def rewritten(self, path: str, body: bytes) -> bytes:
        """The body that the application gets."""
        del path
        return body

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        body = self.rewritten(scope["path"].removeprefix("/api/v1"), body)
        headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
        scope = {**scope, "headers": [*headers, (b"content-length", str(len(body)).encode())]}
        given = False

        async def given_once() -> Any:
            nonlocal given
            if given:
                await asyncio.sleep(3600)
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, given_once, send)


class Renumbers(Around):
    """Gives each training request of a model the next number as it arrives."""

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.arrived: dict[str, int] = defaultdict(int)

    def number(self, model_id: str) -> int:
        """The seq_id that the next request gets."""
        self.arrived[model_id] += 1
        return self.arrived[model_id]

    def rewritten(self, path: str, body: bytes) -> bytes:
        if path == "/forward_backward":
            message = pb.ForwardBackwardRequest.FromString(body)
            message.seq_id = self.number(message.model_id)
            return message.SerializeToString()
        if path in ("/optim_step", "/save_weights", "/save_weights_for_sampler", "/load_weights"):
            asked = json.loads(body)
            if "model_id" in asked:
                asked["seq_id"] = self.number(asked["model_id"])
            return json.dumps(asked).encode()
        return body


class ForgetsResults(Around):
    """A result can be read once."""

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.read: set[str] = set()

    def rewritten(self, path: str, body: bytes) -> bytes:
        if path != "/retrieve_future":
            return body
        asked = json.loads(body)
        again = asked["request_id"] in self.read
        self.read.add(asked["request_id"])
        return json.dumps({**asked, "request_id": "gone"} if again else asked).encode()


class AnswersGarbage:
    """Every result is bytes of nothing, or a page of HTML."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/retrieve_future"):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
            await send({"type": "http.response.body", "body": b"<html>a proxy's login page</html>"})
        else:
            await self.app(scope, receive, send)


class DrawsAgain(Around):
    """A sampling request that is sent again is drawn again."""

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.sent = 10**6

    def rewritten(self, path: str, body: bytes) -> bytes:
        if path != "/asample":
            return body
        self.sent += 1
        return json.dumps({**json.loads(body), "seq_id": self.sent}).encode()
