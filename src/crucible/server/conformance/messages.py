"""What does the suite put on the wire, and what does it read off it? Rows and results as numpy arrays."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from crucible.server.conformance.answers import Broken
from crucible.server.conformance.transport import Reply
from crucible.server.wire import messages_pb2 as pb

Array: TypeAlias = NDArray[Any]

_NUMPY: dict[int, np.dtype[Any]] = {
    pb.DTYPE_FLOAT32: np.dtype("<f4"),
    pb.DTYPE_INT64: np.dtype("<i8"),
    pb.DTYPE_INT32: np.dtype("<i4"),
    pb.DTYPE_BFLOAT16: np.dtype("<u2"),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One datum. tokens: (N,) ids of the input; inputs: arrays by name, (N,) or (N, K).

    sparse: names of the (N, K) inputs that go as compressed sparse rows, as the SDK sends them when that is smaller.
    """

    tokens: tuple[int, ...]
    inputs: Mapping[str, Array] = field(default_factory=dict[str, Array])
    sparse: frozenset[str] = frozenset()

    def having(self, **inputs: Array | None) -> "Row":
        """The row with these inputs replaced, or removed where None."""
        kept = {name: value for name, value in {**self.inputs, **inputs}.items() if value is not None}
        return Row(tokens=self.tokens, inputs=kept, sparse=self.sparse & kept.keys())


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The result of forward and forward_backward. outputs: arrays by name, one mapping per row."""

    outputs: Sequence[Mapping[str, Array]]
    metrics: Mapping[str, float]

    def array(self, index: int, name: str = "logprobs") -> Array:
        """One array of one row."""
        if index >= len(self.outputs):
            raise Broken(f"expected the outputs of at least {index + 1} datums, got {len(self.outputs)}")
        if name not in self.outputs[index]:
            raise Broken(f"no {name!r} in the outputs, only {sorted(self.outputs[index])}")
        return self.outputs[index][name]

    def flat(self, name: str = "logprobs") -> Array:
        """One array over all rows."""
        return np.concatenate([self.array(index, name).ravel() for index in range(len(self.outputs))])

    @property
    def loss(self) -> float:
        """`loss:sum`."""
        if "loss:sum" not in self.metrics:
            raise Broken(f"no 'loss:sum' in the metrics, only {sorted(self.metrics)}")
        return self.metrics["loss:sum"]


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One sampled sequence. topk: ids and logprobs, each (tokens, k)."""

    tokens: tuple[int, ...]
    logprobs: Array
    stopped: bool
    topk: tuple[Array, Array] | None = None


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The result of one sampling request over a prompt of L tokens. prompt_logprobs: (L,), NaN for none."""

    completions: Sequence[Completion]
    prompt_logprobs: Array | None = None
    topk_prompt: tuple[Array, Array] | None = None
    targets: Array | None = None
    alt_tokens: Array | None = None
    alt_logprobs: Array | None = None


def forward_backward_body(
    rows: Sequence[Row],
    *,
    model_id: str,
    seq_id: int,
    loss_fn: str,
    config: Mapping[str, float] | None,
    forward_only: bool,
) -> bytes:
    """The request as protobuf."""
    message = pb.ForwardBackwardRequest(model_id=model_id, seq_id=seq_id, loss_fn=loss_fn, forward_only=forward_only)
    for name, number in (config or {}).items():
        message.loss_fn_config[name] = number
        message.loss_fn_config_v2[name].number = number
    for row in rows:
        datum = message.data.add()
        datum.model_input.add().encoded_text.tokens = np.asarray(row.tokens, dtype="<i4").tobytes()
        for name, array in row.inputs.items():
            _write(datum.loss_fn_inputs[name], array, sparse=name in row.sparse)
    return message.SerializeToString()


def _write(tensor: pb.Tensor, array: Array, *, sparse: bool) -> None:
    whole = np.issubdtype(array.dtype, np.integer)
    values = array.astype("<i8" if whole else "<f4")
    tensor.dtype = pb.DTYPE_INT64 if whole else pb.DTYPE_FLOAT32
    tensor.shape.extend(array.shape)
    if not sparse:
        tensor.dense = values.tobytes()
        return
    rows, columns = np.nonzero(values)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(values)))])
    tensor.sparse_csr.values = values[rows, columns].tobytes()
    tensor.sparse_csr.crow_indices = starts.astype("<i8").tobytes()
    tensor.sparse_csr.col_indices = columns.astype("<i8").tobytes()


def tensor_json(array: Array) -> dict[str, object]:
    """A tensor as the JSON routes take it."""
    whole = np.issubdtype(array.dtype, np.integer)
    return {
        "data": array.ravel().tolist(),
        "dtype": "int64" if whole else "float32",
        "shape": list(array.shape),
    }


def read_scores(reply: Reply) -> Scores:
    """The result of forward or forward_backward."""
    if not reply.protobuf:
        return _scores_of_json(reply.json())
    message = _parsed(pb.ForwardBackwardOutput(), reply)
    outputs: list[dict[str, Array]] = []
    for record in message.loss_fn_outputs:
        columns = {name: _unbatched(tensor) for name, tensor in record.fields.items()}
        count = record.num_datums or max((len(column) for column in columns.values()), default=0)
        for index in range(count):
            outputs.append({name: column[index] for name, column in columns.items()})
    return Scores(outputs=outputs, metrics=dict(message.metrics))


def _scores_of_json(told: Mapping[str, Any]) -> Scores:
    try:
        outputs = [
            {name: _array_of_json(tensor) for name, tensor in output.items()} for output in told["loss_fn_outputs"]
        ]
        return Scores(outputs=outputs, metrics={name: float(value) for name, value in told["metrics"].items()})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Broken(f"no forward_backward output in {str(told)[:200]}") from error


def _array_of_json(told: Mapping[str, Any]) -> Array:
    return np.asarray(told["data"], dtype="<i8" if told["dtype"] == "int64" else "<f4").reshape(
        told.get("shape") or (-1,)
    )


def _parsed(message: Any, reply: Reply) -> Any:
    from google.protobuf.message import DecodeError

    try:
        message.ParseFromString(reply.body)
    except DecodeError as error:
        raise Broken(f"a {type(message).__name__} that does not parse: {error}") from error
    return message


def _unbatched(tensor: pb.BatchedTensor) -> list[Array]:
    values = _numbers(tensor.data, tensor.dtype)
    size = _NUMPY[tensor.dtype].itemsize
    offsets = np.frombuffer(tensor.offsets, dtype="<i8") // size
    return [values[start:end].reshape(-1, *tensor.trailing_shape) for start, end in itertools.pairwise(offsets)]


def _numbers(data: bytes, dtype: int) -> Array:
    if dtype not in _NUMPY:
        raise Broken(f"a tensor of unknown dtype {dtype}")
    values = np.frombuffer(data, dtype=_NUMPY[dtype])
    if dtype == pb.DTYPE_BFLOAT16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values


def read_drawn(reply: Reply) -> Drawn:
    """The result of a sampling request."""
    if not reply.protobuf:
        return _drawn_of_json(reply.json())
    message = _parsed(pb.SampleResponse(), reply)
    alternatives = message.prompt_alt_tokens if message.HasField("prompt_alt_tokens") else None
    return Drawn(
        completions=[_completion(each) for each in message.sequences],
        prompt_logprobs=_floats(message.prompt_logprobs) if message.HasField("prompt_logprobs") else None,
        topk_prompt=_topk(message.topk_prompt_logprobs) if message.HasField("topk_prompt_logprobs") else None,
        targets=_dense(message.target_prompt_logprobs) if message.HasField("target_prompt_logprobs") else None,
        alt_tokens=_dense(alternatives.tokens) if alternatives is not None else None,
        alt_logprobs=_dense(alternatives.logprobs) if alternatives is not None else None,
    )


def _completion(each: pb.SampledSequence) -> Completion:
    return Completion(
        tokens=tuple(np.frombuffer(each.tokens, dtype="<i4").tolist()),
        logprobs=_floats(each.logprobs),
        stopped=each.stop_reason == pb.STOP_REASON_STOP,
        topk=_topk(each.topk_sampled_logprobs) if each.HasField("topk_sampled_logprobs") else None,
    )


def _floats(data: bytes) -> Array:
    return np.frombuffer(data, dtype="<f4")


def _topk(message: pb.TopkLogprobs) -> tuple[Array, Array]:
    shape = (message.length, message.k)
    return (
        np.frombuffer(message.token_ids, dtype="<i4").reshape(shape),
        _floats(message.logprobs).reshape(shape),
    )


def _dense(tensor: pb.Tensor) -> Array:
    shape = tuple(tensor.shape)
    if not tensor.HasField("sparse_csr"):
        return _numbers(tensor.dense, tensor.dtype).reshape(shape)
    csr = tensor.sparse_csr
    values = _numbers(csr.values, tensor.dtype)
    starts = np.frombuffer(csr.crow_indices, dtype="<i8")
    whole = np.zeros(shape, dtype=values.dtype)
    rows = np.repeat(np.arange(shape[0]), np.diff(starts))
    whole[rows, np.frombuffer(csr.col_indices, dtype="<i8")] = values
    return whole


def _drawn_of_json(told: Mapping[str, Any]) -> Drawn:
    try:
        completions = [
            Completion(
                tokens=tuple(each["tokens"]),
                logprobs=np.asarray(each.get("logprobs") or [], dtype="<f4"),
                stopped=each["stop_reason"] == "stop",
            )
            for each in cast(Sequence[Mapping[str, Any]], told["sequences"])
        ]
    except (KeyError, TypeError) as error:
        raise Broken(f"no completions in {str(told)[:200]}") from error
    prompt = told.get("prompt_logprobs")
    # null becomes NaN.
    return Drawn(completions=completions, prompt_logprobs=None if prompt is None else np.asarray(prompt, dtype="<f4"))
