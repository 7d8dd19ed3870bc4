"""What does the SDK cost by itself? A server that answers every call at once with bytes made before it started.

One `asyncio.Protocol`, no framework, no JSON, no state: what a client measures against it is the SDK, the kernel's
sockets and one wake-up of this process. Sampling answers hold 16 tokens.
"""

import argparse
import asyncio
import json
from typing import cast

import numpy as np
import uvloop
from tinker.proto import tinker_public_pb2 as wire

SESSION, MODEL, TOKENS, SAMPLED = "stub", "stub:train:0", 3, 16
JSON, PROTOBUF = b"application/json", b"application/x-protobuf"


def _json(value: object) -> bytes:
    return _reply(json.dumps(value).encode(), JSON)


def _reply(body: bytes, kind: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (kind, len(body), body)


def _scores() -> bytes:
    """A forward_backward's result for one datum of three tokens."""
    found = wire.ForwardBackwardOutput(loss_fn_output_type="ArrayRecord", metrics={"loss:sum": 0.0})
    record = found.loss_fn_outputs.add(num_datums=1)
    for name in ("logprobs", "elementwise_loss"):
        field = record.fields[name]
        field.data = np.zeros(TOKENS, np.float32).tobytes()
        field.offsets = np.asarray([0, 4 * TOKENS], np.int64).tobytes()
        field.dtype = wire.DTYPE_FLOAT32
    return _reply(found.SerializeToString(), PROTOBUF)


def _completion() -> bytes:
    found = wire.SampleResponse()
    tokens, logprobs = np.arange(SAMPLED, dtype=np.int32), np.zeros(SAMPLED, np.float32)
    found.sequences.add(stop_reason=wire.STOP_REASON_LENGTH, tokens=tokens.tobytes(), logprobs=logprobs.tobytes())
    return _reply(found.SerializeToString(), PROTOBUF)


def _info(model: str) -> object:
    return {
        "type": "get_info",
        "model_id": MODEL,
        "model_name": model,
        "model_data": {"arch": "stub", "model_name": model, "tokenizer_id": model},
        "optimizer_config": {"type": "adamw"},
        "is_lora": True,
        "lora_rank": 8,
    }


def answers(model: str) -> dict[bytes, bytes]:
    """The reply to a path's last part; that of `retrieve_future` goes by the request's id."""
    supported = [{"model_name": model, "max_context_length": 4096, "trainable": True, "sampleable": True}]
    return {
        b"config": _json({}),
        b"dynamic_config": _json({}),
        b"create_session": _json({"type": "create_session", "session_id": SESSION}),
        b"session_heartbeat": _json({"type": "session_heartbeat"}),
        b"get_server_capabilities": _json({"supported_models": supported}),
        b"create_model": _json({"request_id": "create", "model_id": MODEL}),
        b"get_info": _json(_info(model)),
        b"forward_backward": _json({"request_id": "scores"}),
        b"optim_step": _json({"request_id": "step"}),
        b"create_sampling_session": _json({"type": "create_sampling_session", "sampling_session_id": "sampler"}),
        b"asample": _json({"request_id": "drawn", "sample_sequence_ids": ["drawn-0"]}),
        b"telemetry": _json({"status": "accepted"}),
        b"finish": b"HTTP/1.1 204 No Content\r\n\r\n",
        b"healthz": _json({"status": "ok"}),
        b'"create"': _json({"type": "create_model", "model_id": MODEL}),
        b'"scores"': _scores(),
        b'"step"': _json({"metrics": {}}),
        b'"drawn"': _completion(),
    }


class Stub(asyncio.Protocol):
    """One connection: requests are answered in order as their bodies become complete."""

    def __init__(self, known: dict[bytes, bytes]) -> None:
        self._known, self._unread = known, b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (end := self._unread.find(b"\r\n\r\n")) >= 0:
            head = self._unread[:end].lower()
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            whole = end + 4 + int(length or 0)
            if len(self._unread) < whole:
                return
            body, self._unread = self._unread[end + 4 : whole], self._unread[whole:]
            self._answer(head.split(b" ", 2)[1].rpartition(b"/")[2], body)

    def _answer(self, path: bytes, body: bytes) -> None:
        if path == b"retrieve_future":
            path = next(name for name in (b'"scores"', b'"step"', b'"drawn"', b'"create"') if name in body)
        assert self._transport is not None
        self._transport.write(self._known[path])


async def serve(port: int, model: str) -> None:
    """Answer until the process is ended."""
    known = answers(model)
    server = await asyncio.get_running_loop().create_server(lambda: Stub(known), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    args = parser.parse_args()
    uvloop.run(serve(args.port, args.model))


if __name__ == "__main__":
    main()
