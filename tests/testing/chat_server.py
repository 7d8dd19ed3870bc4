"""A server that speaks OpenAI's chat protocol, with a fake's answers. A real HTTP server on a free port."""

import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from crucible.ports.llm_client import ChatParams, ChatResponse
from crucible.testing.fakes import FakeLLMClient


class ChatServer:
    """url: what a client is given. token: the key that it takes, or None for any.

    answers: what the next requests get instead, in order: (status, headers, body). requests: (headers, body) of all.
    cut: end a stream after its first piece. pause: seconds before an answer. busy, most: requests inside, now and ever.
    """

    def __init__(self) -> None:
        self.url, self.token = "", None
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.cut, self.pause = False, 0.0
        self.lock, self.busy, self.most = threading.Lock(), 0, 0

    def answer(self, body: dict[str, Any]) -> ChatResponse:
        params = ChatParams(
            max_tokens=body.get("max_tokens"), seed=body.get("seed"), stop=tuple(body.get("stop") or ())
        )
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        return FakeLLMClient().chat(body["messages"], params=params, schema=schema).result()


class Handler(BaseHTTPRequestHandler):
    chat: ChatServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.chat.lock:
            self.chat.requests.append((dict(self.headers), {"path": self.path, **body}))
            self.chat.busy += 1
            self.chat.most = max(self.chat.most, self.chat.busy)
            planned = self.chat.answers.pop(0) if self.chat.answers else None
        time.sleep(self.chat.pause)
        with self.chat.lock:
            self.chat.busy -= 1
        try:
            self._reply(body, planned)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _reply(self, body: dict[str, Any], planned: tuple[int, dict[str, str], bytes] | None) -> None:
        if planned:
            self._send(*planned)
        elif self.chat.token and self.headers.get("Authorization") != f"Bearer {self.chat.token}":
            told = {"error": {"message": f"{self.headers.get('Authorization')} is not a key"}}
            self._send(401, {}, json.dumps(told).encode())
        elif body.get("stream"):
            self._stream(self.chat.answer(body))
        else:
            found = self.chat.answer(body)
            choice = {"index": 0, "message": {"role": "assistant", "content": found.content}}
            completion = {
                "model": "served",
                "choices": [{**choice, "finish_reason": found.stopped}],
                "usage": usage(found),
            }
            self._send(200, {}, json.dumps(completion).encode())

    def _send(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, found: ChatResponse) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        words = [f"{word} " for word in found.content.split(" ")]
        words[-1] = words[-1].removesuffix(" ")
        parts: list[Any] = [{"choices": [{"delta": {"content": word}}], "model": "served"} for word in words]
        if self.chat.cut:
            self._event(parts[0])
            self.close_connection = True
            return
        self._event(b": a comment")
        for part in [*parts, {"choices": [{"delta": {}, "finish_reason": found.stopped}]}]:
            self._event(part)
        self._event({"choices": [], "usage": usage(found)})
        self._event(b"data: [DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, event: Any) -> None:
        data = event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode()
        data += b"\n\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


def usage(found: ChatResponse) -> dict[str, int]:
    assert found.usage is not None
    return {"prompt_tokens": found.usage.input_tokens, "completion_tokens": found.usage.output_tokens}


@contextmanager
def serving() -> Generator[ChatServer]:
    """The server, up until the block's end."""
    chat = ChatServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"chat": chat}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    chat.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield chat
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
