"""How does a forward_backward request come off the wire, and its outcome go onto it?"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from google.protobuf.message import DecodeError

from crucible.errors import UnsupportedError
from crucible.ports.datum import Datum, EncodedTextChunk, ImageChunk, ModelInput, ModelInputChunk, TensorData
from crucible.ports.training_client import ForwardBackwardOutput
from crucible.server.wire import messages_pb2 as wire
from crucible.server.wire.tensors import Room, packed, read_packed, read_tensor

_INT32 = np.dtype(np.int32)
_Signature: TypeAlias = tuple[tuple[str, str, tuple[int, ...]], ...]


def parse_forward_backward(body: bytes) -> wire.ForwardBackwardRequest:
    """The request as a message; its tensors are still bytes.

    Raises:
        ValueError: if the body is no such message.
    """
    try:
        return wire.ForwardBackwardRequest.FromString(body)
    except DecodeError as error:
        raise ValueError("the body is no ForwardBackwardRequest in protobuf") from error


def read_datums(messages: Iterable[wire.Datum], *, room: Room | None = None) -> list[Datum]:
    """The datums, their tensors checked and written out. Provenance spans are for a loss that we do not have.

    Raises:
        ValueError: if one is malformed.
        UnsupportedError: if a chunk is of a kind that we do not have.
    """
    room = room or Room()
    return [_read_datum(message, f"datum {place}", room) for place, message in enumerate(messages)]


def loss_config(message: wire.ForwardBackwardRequest) -> dict[str, float]:
    """The loss's settings; the second form of the field, where it is there, has all of them.

    Raises:
        UnsupportedError: if one is a text: no loss here takes one.
    """
    if not message.loss_fn_config_v2:
        return dict(message.loss_fn_config)
    texts = sorted(key for key, value in message.loss_fn_config_v2.items() if value.HasField("text"))
    if texts:
        raise UnsupportedError.of(
            f"no loss of this server takes a text as a setting: {', '.join(texts)}", where=message.loss_fn
        )
    return {key: value.number for key, value in message.loss_fn_config_v2.items()}


def write_output(output: ForwardBackwardOutput) -> bytes:
    """The outcome: a field's arrays of neighbouring datums joined, as long as they are of one kind."""
    message = wire.ForwardBackwardOutput(loss_fn_output_type=output.loss_fn_output_type, metrics=output.metrics)
    for _, group in itertools.groupby(output.loss_fn_outputs, key=_signature):
        message.loss_fn_outputs.append(_record(tuple(group)))
    return message.SerializeToString()


def _read_datum(message: wire.Datum, name: str, room: Room) -> Datum:
    return Datum(
        ModelInput(tuple(_read_chunk(chunk, name) for chunk in message.model_input)),
        {
            key: read_tensor(tensor, name=f"{name}, {key}", room=room)
            for key, tensor in sorted(message.loss_fn_inputs.items())
        },
    )


def _read_chunk(message: wire.Chunk, name: str) -> ModelInputChunk:
    kind = message.WhichOneof("chunk")
    if kind == "encoded_text":
        tokens = read_packed(message.encoded_text.tokens, _INT32, name=f"{name}, tokens")
        return EncodedTextChunk(tuple(tokens.tolist()))
    if kind == "image":
        image = message.image
        if image.HasField("override_dimensions"):
            raise UnsupportedError.of(f"{name}: override_dimensions of an image is not supported")
        if image.format not in ("png", "jpeg"):
            raise UnsupportedError.of(f"{name}: an image is png or jpeg", given=image.format)
        expected = image.expected_tokens if image.HasField("expected_tokens") else None
        return ImageChunk(image.data, image.format, expected)
    if kind == "dmel":
        raise UnsupportedError.of(f"{name}: audio (dmel) is not supported")
    raise ValueError(f"{name}: a chunk of its model_input is of no known kind")


def _signature(fields: Mapping[str, TensorData]) -> _Signature:
    return tuple((name, tensor.dtype, tensor.shape[1:]) for name, tensor in sorted(fields.items()))


def _record(datums: Sequence[Mapping[str, TensorData]]) -> wire.ArrayRecord:
    return wire.ArrayRecord(
        type_tag="ArrayRecord",
        fields={name: _batched([datum[name] for datum in datums]) for name in datums[0]},
        num_datums=len(datums),
    )


def _batched(tensors: Sequence[TensorData]) -> wire.BatchedTensor:
    parts = [packed(tensor) for tensor in tensors]
    ends = itertools.accumulate((len(part) for part in parts), initial=0)
    offsets = np.fromiter(ends, dtype=np.int64, count=len(parts) + 1)
    return wire.BatchedTensor(
        data=b"".join(parts),
        offsets=offsets.tobytes(),
        dtype=wire.DTYPE_FLOAT32 if tensors[0].dtype == "float32" else wire.DTYPE_INT64,
        trailing_shape=tensors[0].shape[1:],
    )
