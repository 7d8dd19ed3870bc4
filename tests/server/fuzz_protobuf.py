"""Which binary requests does the fuzzer send? A valid forward_backward, with something done to a field or its bytes."""

import random

import numpy as np
import zstandard
from fuzz_json import Ids, Input, damaged

from crucible.server.wire import messages_pb2 as wire

PATH = "/api/v1/forward_backward"
PROTOBUF = {"content-type": "application/x-protobuf"}
SIZES = (0, 1, 2, 3, -1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
TOKENS = 3


def valid_request(model_id: str, seq_id: int) -> wire.ForwardBackwardRequest:
    """Two datums of three tokens: one with dense tensors, one with a sparse one."""
    message = wire.ForwardBackwardRequest(model_id=model_id, seq_id=seq_id, loss_fn="cross_entropy")
    for sparse in (False, True):
        datum = message.data.add()
        datum.model_input.add().encoded_text.tokens = np.arange(TOKENS, dtype="<i4").tobytes()
        targets, weights = datum.loss_fn_inputs["target_tokens"], datum.loss_fn_inputs["weights"]
        targets.dtype, weights.dtype = wire.DTYPE_INT64, wire.DTYPE_FLOAT32
        if sparse:
            weights.sparse_csr.values = np.ones(TOKENS, "<f4").tobytes()
            weights.sparse_csr.crow_indices = np.arange(TOKENS + 1, dtype="<i8").tobytes()
            weights.sparse_csr.col_indices = np.zeros(TOKENS, "<i8").tobytes()
            targets.dense = np.arange(2 * TOKENS, dtype="<i8").tobytes()
            targets.shape[:] = weights.shape[:] = [TOKENS, 2]
        else:
            targets.dense = np.arange(TOKENS, dtype="<i8").tobytes()
            weights.dense = np.ones(TOKENS, "<f4").tobytes()
            targets.shape[:] = weights.shape[:] = [TOKENS]
    return message


def _odd_tensor(draw: random.Random, tensor: wire.Tensor) -> None:
    kind = draw.randrange(7)
    if kind == 0:
        tensor.dtype = draw.choice((0, 1, 2, 3, 4, 5, 99))  # pyright: ignore[reportAttributeAccessIssue]  (open enum)
    elif kind == 1:
        tensor.shape[:] = [draw.choice(SIZES) for _ in range(draw.choice((0, 1, 2, 3, 9, 1000)))]
    elif kind == 2:
        tensor.dense = draw.randbytes(draw.choice((0, 1, 3, 12, 24, 4096)))
    elif kind == 3:
        tensor.sparse_csr.crow_indices = _indices(draw)
    elif kind == 4:
        tensor.sparse_csr.col_indices = _indices(draw)
    elif kind == 5:
        values = [np.nan, np.inf, -np.inf, -1.0, 3e38, 1e-45]
        tensor.dense = np.asarray([draw.choice(values) for _ in range(TOKENS)], "<f4").tobytes()
        tensor.dtype = wire.DTYPE_FLOAT32
    else:
        tensor.ClearField("dense")


def _indices(draw: random.Random) -> bytes:
    return np.asarray([draw.choice(SIZES) for _ in range(draw.randrange(6))], "<i8").tobytes() + bytes(
        draw.choice((0, 0, 0, 3))
    )


def _odd_datum(draw: random.Random, datum: wire.Datum) -> None:
    kind = draw.randrange(8)
    tokens = datum.model_input[0].encoded_text
    if kind == 0:
        tokens.tokens = np.asarray([draw.choice((-1, 0, 255, 2**31 - 1)) for _ in range(TOKENS)], "<i4").tobytes()
    elif kind == 1:
        tokens.tokens = draw.randbytes(draw.choice((0, 1, 5, 4 * 5000)))
    elif kind == 2:
        datum.ClearField("model_input")
    elif kind == 3:
        datum.model_input.add().image.data = b"no image"
    elif kind == 4:
        datum.model_input.add().dmel.dmel = b"x"
    elif kind == 5:
        datum.loss_fn_inputs[draw.choice(("", "logprobs", "advantages", "mask", "x" * 1000))].dense = b"\0" * 12
    elif kind == 6:
        datum.loss_fn_inputs.clear()
    else:
        _odd_tensor(draw, datum.loss_fn_inputs[draw.choice(("target_tokens", "weights"))])


def _odd_request(draw: random.Random, message: wire.ForwardBackwardRequest) -> None:
    kind = draw.randrange(9)
    if kind == 0:
        message.loss_fn = draw.choice(("", "ppo", "dro", "importance_sampling", "gspo", "nope", "x" * 5000, "\x00"))
    elif kind == 1:
        message.loss_fn_config["clip_low_threshold"] = draw.choice((float("nan"), float("inf"), -1.0, 0.8))
    elif kind == 2:
        message.loss_fn_config_v2[draw.choice(("beta", "", "x"))].text = "y"
    elif kind == 3:
        message.seq_id = draw.choice((-1, 0, 2**31 - 1, -(2**31)))
    elif kind == 4:
        message.model_id = draw.choice(("", "x", message.model_id + "x", "\x00", "a" * 5000))
    elif kind == 5:
        message.ClearField("data")
    elif kind == 6:
        message.forward_only = True
    else:
        _odd_datum(draw, draw.choice(message.data))


def bomb(draw: random.Random, body: bytes) -> bytes:
    """Bytes that say they are zstd: a body, one that grows a thousandfold and more, or one that is broken."""
    kind = draw.randrange(6)
    if kind < 2:
        body = zstandard.ZstdCompressor().compress(body)
        return body if kind else damaged(draw, body)
    if kind == 2:
        return zstandard.ZstdCompressor().compress(bytes(draw.choice((1 << 20, 1 << 24))))
    if kind == 3:  # a header that promises 2^62 bytes
        return b"\x28\xb5\x2f\xfd\xe0" + (1 << 62).to_bytes(8, "little") + draw.randbytes(8)
    if kind == 4:  # a window of 2^41 bytes
        return b"\x28\xb5\x2f\xfd\x00\xf8" + draw.randbytes(8)
    return zstandard.ZstdCompressor().compress(body) * draw.choice((2, 50))


def protobuf_input(draw: random.Random, ids: Ids) -> Input:
    """A forward_backward that is not quite one."""
    message = valid_request(ids.run, draw.randrange(1, 12))
    for _ in range(draw.choice((0, 1, 1, 1, 2, 3))):
        _odd_request(draw, message)
        if not message.data or not all(datum.model_input for datum in message.data):
            break
    body = message.SerializeToString()
    if draw.random() < 0.4:
        body = damaged(draw, body)
    if draw.random() < 0.1:
        return Input(method="POST", path=PATH, body=bomb(draw, body), headers={**PROTOBUF, "content-encoding": "zstd"})
    return Input(method="POST", path=PATH, body=body, headers=PROTOBUF)
