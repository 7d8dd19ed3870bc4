"""Does what the official SDK writes and reads mean the same here, and is what nobody could mean refused?"""

import ast
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from tinker import types
from tinker.proto.request_conv import forward_backward_request_to_proto
from tinker.proto.response_conv import deserialize_forward_backward_output, deserialize_sample_response

from crucible.errors import UnsupportedError
from crucible.ports.datum import Datum, EncodedTextChunk, ImageChunk, TensorData
from crucible.ports.sampling_client import Provenance, SampledSequence, SampleResponse
from crucible.ports.training_client import ForwardBackwardOutput
from crucible.server.wire import messages_pb2 as wire
from crucible.server.wire.sampling import write_sample_response
from crucible.server.wire.tensors import Room, SparseCells, read_tensor, tensor_message
from crucible.server.wire.training import loss_config, parse_forward_backward, read_datums, write_output

ROOT = Path(__file__).parents[2]
BASE = Provenance(base_model="m", digest="", policy_version=0, temperature=1.0)


def sent(datum: types.Datum, **config: float | str) -> wire.ForwardBackwardRequest:
    """A request as the SDK writes it."""
    asked = types.ForwardBackwardInput(data=[datum], loss_fn="cross_entropy", loss_fn_config=config or None)
    request = types.ForwardBackwardRequest(forward_backward_input=asked, model_id="m", seq_id=7)
    return parse_forward_backward(forward_backward_request_to_proto(request).SerializeToString())


def received(inputs: Mapping[str, object], tokens: list[int] | None = None) -> Datum:
    """A datum that went through the SDK."""
    tokens = tokens or [5, 6, 7]
    return read_datums(sent(types.Datum(model_input=types.ModelInput.from_ints(tokens), loss_fn_inputs=inputs)).data)[0]


def test_the_compiled_messages_are_those_of_the_proto_file(tmp_path: Path) -> None:
    source, out = "crucible/server/wire/messages.proto", tmp_path / "compiled"
    out.mkdir()
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'src'}", f"--python_out={out}", source]
    subprocess.run(command, check=True)
    compiled = ast.parse((out / source.replace(".proto", "_pb2.py")).read_text())
    constants = [node.value for node in ast.walk(compiled) if isinstance(node, ast.Constant)]
    assert wire.DESCRIPTOR.serialized_pb in constants


def test_a_datum_of_the_sdk_arrives_as_it_was() -> None:
    datum = received({"target_tokens": [6, 7, 8], "weights": [0.0, -1.5, 2.0]})
    assert datum.model_input.to_ints() == [5, 6, 7]
    assert datum.loss_fn_inputs["target_tokens"] == TensorData(np.array([6, 7, 8]))
    assert datum.loss_fn_inputs["weights"] == TensorData(np.array([0.0, -1.5, 2.0], dtype=np.float32))


def test_a_sparse_matrix_of_the_sdk_is_written_out() -> None:
    matrix = torch.zeros(3, 40)
    matrix[0, 7], matrix[2, 0], matrix[2, 39] = 1.5, -2.0, 3.0
    request = sent(types.Datum(model_input=types.ModelInput.from_ints([1, 2, 3]), loss_fn_inputs={"weights": matrix}))
    assert request.data[0].loss_fn_inputs["weights"].HasField("sparse_csr")
    assert read_datums(request.data)[0].loss_fn_inputs["weights"] == TensorData(matrix.numpy())


def test_text_and_image_chunks_keep_their_order() -> None:
    chunks = [
        types.EncodedTextChunk(tokens=[1]),
        types.ImageChunk(data=b"png", format="png", expected_tokens=4),
        types.EncodedTextChunk(tokens=[]),
    ]
    request = sent(types.Datum(model_input=types.ModelInput(chunks=chunks), loss_fn_inputs={}))
    expected = (EncodedTextChunk((1,)), ImageChunk(b"png", "png", 4), EncodedTextChunk(()))
    assert read_datums(request.data)[0].model_input.chunks == expected


def test_audio_and_texts_in_a_config_are_refused_by_name() -> None:
    audio = wire.Datum(model_input=[wire.Chunk(dmel=wire.DmelChunk(dmel=b"x"))])
    with pytest.raises(UnsupportedError, match="dmel"):
        read_datums([audio])
    empty = types.Datum(model_input=types.ModelInput.from_ints([1]), loss_fn_inputs={})
    with pytest.raises(UnsupportedError, match="loss_id"):
        loss_config(sent(empty, loss_id="abc"))
    assert loss_config(sent(empty, beta=0.5)) == {"beta": 0.5}


def test_the_older_form_of_a_config_is_read_too() -> None:
    assert loss_config(wire.ForwardBackwardRequest(loss_fn_config={"beta": 0.25})) == {"beta": 0.25}


def test_bfloat16_and_int32_are_widened_exactly() -> None:
    values = torch.tensor([1.5, -2.25, 3e38], dtype=torch.bfloat16)
    message = wire.Tensor(dense=values.view(torch.int16).numpy().tobytes(), dtype=wire.DTYPE_BFLOAT16, shape=[3])
    assert read_tensor(message, name="x", room=Room()) == TensorData(values.float().numpy())
    small = wire.Tensor(dense=np.array([-1, 2], dtype=np.int32).tobytes(), dtype=wire.DTYPE_INT32)
    assert read_tensor(small, name="x", room=Room()) == TensorData(np.array([-1, 2]))


def _csr(values: int, crow: list[int], col: list[int], shape: list[int]) -> wire.Tensor:
    sparse = wire.SparseCsr(
        values=np.ones(values, dtype=np.float32).tobytes(),
        crow_indices=np.array(crow, dtype=np.int64).tobytes(),
        col_indices=np.array(col, dtype=np.int64).tobytes(),
    )
    return wire.Tensor(sparse_csr=sparse, dtype=wire.DTYPE_FLOAT32, shape=shape)


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (wire.Tensor(dense=b"12345", dtype=wire.DTYPE_FLOAT32), "5 bytes"),
        (wire.Tensor(dense=b"1234", dtype=wire.DTYPE_FLOAT32, shape=[2]), r"do not make the shape \[2\]"),
        (wire.Tensor(dense=b"1234", dtype=wire.DTYPE_FLOAT32, shape=[-1, -1]), "negative"),
        (wire.Tensor(dense=b"1234", dtype=wire.DTYPE_FLOAT32, shape=[1 << 62, 1 << 62, 0, 4]), "do not make"),
        (wire.Tensor(dense=b"1234", dtype=wire.DTYPE_FLOAT32, shape=[1] * 9), "9 dimensions"),
        (wire.Tensor(dense=b"1234", dtype=wire.DTYPE_UNSPECIFIED), "dtype 0"),
        (_csr(1, [0, 1], [0], [1 << 40, 1]), "row pointers"),
        (_csr(1, [0, 1], [0], [1, 1 << 40]), "take more than"),
        (_csr(1, [0, 1], [5], [1, 5]), "column index"),
        (_csr(1, [0, 1], [-1], [1, 5]), "column index"),
        (_csr(2, [0, 2], [0], [1, 5]), "column indices"),
        (_csr(2, [0, 3, 2], [0, 1], [2, 5]), "do not go up"),
        (_csr(1, [0, 1], [0], [1]), "two dimensions"),
        (_csr(1, [], [0], [0, 5]), "row pointers"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused_before_memory_is_taken(message: wire.Tensor, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        read_tensor(message, name="weights", room=Room())


def test_many_sparse_tensors_together_take_no_more_than_the_room() -> None:
    room = Room(8 * 1000)
    read_tensor(_csr(1, [0, 1], [0], [1, 600]), name="a", room=room)
    with pytest.raises(ValueError, match="8000 bytes"):
        read_tensor(_csr(1, [0, 1], [0], [1, 600]), name="b", room=room)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_tensor_survives_the_wire(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.float32, np.int64]))
    tensor = TensorData(data.draw(arrays(dtype, array_shapes(max_dims=3, min_side=0))))
    if tensor.data.ndim:
        assert read_tensor(tensor_message(tensor), name="x", room=Room()) == tensor


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3)), max_size=6), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_sdk_reads_every_datums_arrays(sizes: list[tuple[int, int]], ragged: bool) -> None:
    random = np.random.default_rng(0)
    shapes = [(rows, width) if ragged else (rows,) for rows, width in sizes]
    outputs = [{"logprobs": TensorData(random.normal(size=shape).astype(np.float32))} for shape in shapes]
    sent_output = ForwardBackwardOutput(loss_fn_output_type="a", loss_fn_outputs=outputs, metrics={"loss:sum": 1.5})
    read = deserialize_forward_backward_output(write_output(sent_output))
    assert read.metrics == {"loss:sum": 1.5}
    assert len(read.loss_fn_outputs) == len(outputs)
    for mine, theirs in zip(outputs, read.loss_fn_outputs, strict=True):
        assert tuple(theirs["logprobs"].shape or ()) == mine["logprobs"].shape
        assert np.array_equal(theirs["logprobs"].to_numpy().reshape(mine["logprobs"].shape), mine["logprobs"].data)


def test_the_sdk_reads_completions_with_all_that_can_be_asked_for() -> None:
    sequence = SampledSequence(
        tokens=(3, 4), logprobs=(-1.0, -2.0), stop_reason="length", topk_logprobs=(((3, -1.0), (9, -1.5)), ((4, -2.0),))
    )
    response = SampleResponse(
        sequences=(sequence,),
        provenance=BASE,
        prompt_logprobs=(None, -0.5),
        topk_prompt_logprobs=(None, ((7, -0.25),)),
        prompt_alt_tokens=TensorData([[5, 6]]),
        prompt_alt_logprobs=TensorData([[-1.0, -2.0]]),
    )
    read = deserialize_sample_response(write_sample_response(response, topk_prompt=2, topk_sample=2))
    assert read.sequences[0].tokens == [3, 4]
    assert read.sequences[0].stop_reason == "length"
    assert read.sequences[0].topk_logprobs == [[(3, -1.0), (9, -1.5)], [(4, -2.0)]]
    assert read.prompt_logprobs == [None, -0.5]
    assert read.topk_prompt_logprobs == [None, [(7, -0.25)]]
    assert read.prompt_alt_tokens is not None
    assert read.prompt_alt_tokens.tokens.tolist() == [[5, 6]] or read.prompt_alt_tokens.tokens.shape == [1, 2]


def test_a_sparse_question_about_the_prompt_is_answered_in_the_same_cells() -> None:
    crow, col = np.array([0, 1, 3]), np.array([1, 0, 2])
    cells = SparseCells.checked(crow, col, [2, 3], values=3, name="x")
    response = SampleResponse(
        sequences=(), provenance=BASE, target_prompt_logprobs=TensorData([[0.0, -1.0, 0.0], [-2.0, 0.0, -3.0]])
    )
    read = deserialize_sample_response(write_sample_response(response, target_cells=cells)).target_prompt_logprobs
    assert read is not None
    assert (read.sparse_crow_indices, read.sparse_col_indices, read.data) == ([0, 1, 3], [1, 0, 2], [-1.0, -2.0, -3.0])
