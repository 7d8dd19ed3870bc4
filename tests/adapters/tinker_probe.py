"""A server that speaks as much of the Tinker API as a test needs, and answers what the test tells it to.

It is for what our own server never says: refusals without our names, a lost key, a lost future.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

RUN = "session-1:train:0"
MODEL = "org/tiny"

USUAL: dict[str, Any] = {
    "client/config": {},
    "client/dynamic_config": {},
    "create_session": {"session_id": "session-1"},
    "session_heartbeat": {"type": "session_heartbeat"},
    "sessions/session-1/finish": {},
    "create_model": {"request_id": "create_model"},
    "load_weights": {"request_id": "load_weights"},
    "optim_step": {"request_id": "optim_step"},
    "forward_backward": {"request_id": "forward_backward"},
    "create_sampling_session": {"sampling_session_id": "sampler-1"},
    "samplers/sampler-1": {"sampler_id": "sampler-1", "base_model": MODEL},
    "asample": {"request_id": "asample", "sample_sequence_ids": ["s"]},
    "get_info": {"model_id": RUN, "model_data": {"model_name": MODEL, "tokenizer_id": "there"}, "model_name": MODEL},
    "weights_info": {"base_model": MODEL, "is_lora": True, "lora_rank": 32},
    f"training_runs/{RUN}/checkpoints": {"checkpoints": []},
}
FUTURES: dict[str, Any] = {
    "create_model": {"model_id": RUN, "type": "create_model"},
    "load_weights": {"model_id": RUN, "type": "load_weights"},
    "optim_step": {"metrics": {}},
}
SAVED = {"save_weights": "weights", "save_weights_for_sampler": "sampler_weights"}


@dataclass
class Probe:
    """answers, futures: what is said instead, by path and by request; a number is an HTTP status. seen: what was
    asked, in order."""

    url: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    futures: dict[str, Any] = field(default_factory=dict)
    seen: list[tuple[str, Any]] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        path = request.path_params["path"]
        binary = request.headers.get("content-type", "").startswith("application/x-protobuf")
        body = None if binary or request.method != "POST" else await request.json()
        self.seen.append((f"{request.method} {path}", body))
        if path == "retrieve_future":
            asked, _, name = body["request_id"].partition("/")
            saved = {"path": f"tinker://{RUN}/{SAVED.get(asked)}/{name}"}
            said = self.futures.get(asked, saved if asked in SAVED else FUTURES.get(asked))
        else:
            usual = {"request_id": f"{path}/{body['path']}"} if path in SAVED else USUAL.get(path, 404)
            said = self.answers.get(path, usual)
        if said == 408:
            await asyncio.sleep(0.05)
        if isinstance(said, int):
            return JSONResponse({"detail": f"the probe says {said}"}, status_code=said)
        if isinstance(said, tuple):
            return JSONResponse(said[1], status_code=said[0])
        # The SDK never closes the connection of its first question.
        return JSONResponse(said, headers={"Connection": "close"} if path == "client/config" else None)

    def asked(self, path: str) -> list[Any]:
        """The bodies that came to a path."""
        return [body for name, body in self.seen if name.split(" ", 1)[1] == path]


@contextlib.contextmanager
def probing() -> Iterator[Probe]:
    """A probe on a free port."""
    probe = Probe()
    app = Starlette(routes=[Route("/api/v1/{path:path}", probe.answer, methods=["GET", "POST", "DELETE"])])
    listening = socket.create_server(("127.0.0.1", 0))
    probe.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield probe
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
        listening.close()
