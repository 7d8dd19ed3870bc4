"""Does a datum reach the SDK and come back as it was?"""

import numpy as np
import pytest
import tinker
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tinker import types
from tinker.proto.request_conv import forward_backward_request_to_proto

from crucible.adapters.tinker.conversion import from_datum, from_tensor, to_adam, to_datum, to_tensor, with_weights
from crucible.adapters.tinker.drawing import to_params
from crucible.errors import UnsupportedError
from crucible.ports.datum import Datum, EncodedTextChunk, ImageChunk, ModelInput, TensorData
from crucible.ports.sampling_client import SamplingParams
from crucible.ports.training_client import AdamParams

NAMES = st.sampled_from(["target_tokens", "weights", "logprobs", "advantages", "sequence_ratio_mask", "mine"])
SHAPES = hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=5)
ARRAYS = st.one_of(
    hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32)),
    hnp.arrays(np.int64, SHAPES, elements=st.integers(-(2**63), 2**63 - 1)),
)
TEXT = st.builds(EncodedTextChunk, st.lists(st.integers(0, 2**31 - 1), max_size=6).map(tuple))
IMAGE = st.builds(
    ImageChunk,
    data=st.binary(max_size=6),
    format=st.sampled_from(["png", "jpeg"]),
    expected_tokens=st.none() | st.integers(0, 9),
)
DATUMS = st.builds(
    Datum,
    st.lists(TEXT | IMAGE, max_size=4).map(lambda chunks: ModelInput(tuple(chunks))),
    st.dictionaries(NAMES, ARRAYS.map(TensorData), max_size=3),
)


def bits(datum: Datum) -> dict[str, bytes]:
    return {name: tensor.data.tobytes() for name, tensor in datum.loss_fn_inputs.items()}


@given(datum=DATUMS)
@settings(max_examples=200)
def test_a_datum_comes_back_to_the_bit(datum: Datum) -> None:
    back = from_datum(to_datum(datum))
    assert back == datum and bits(back) == bits(datum)
    assert all(back.loss_fn_inputs[name].shape == tensor.shape for name, tensor in datum.loss_fn_inputs.items())


@given(dense=hnp.arrays(np.int64, st.tuples(st.integers(0, 6), st.integers(1, 6)), elements=st.integers(-1, 3)))
def test_a_sparse_tensor_of_the_sdk_is_read_as_its_dense_form(dense: np.ndarray) -> None:
    for pad in (0, -1):
        tensor = types.TensorData.from_torch_sparse(
            torch.tensor(dense.tolist(), dtype=torch.int64).reshape(dense.shape), pad_value=pad
        )
        assert from_tensor(tensor, absent=pad) == TensorData(dense)


@pytest.mark.parametrize(
    ("crow", "col"), [([0, 1], [0]), ([0, 2, 1], [0]), ([0, 1, 1], [5]), ([0, 1, 1], [-1]), ([1, 1, 1], [0])]
)
def test_a_sparse_tensor_that_does_not_fit_is_refused(crow: list[int], col: list[int]) -> None:
    tensor = types.TensorData([7], "int64", [2, 3], sparse_crow_indices=crow, sparse_col_indices=col)
    with pytest.raises(ValueError, match="do not fit"):
        from_tensor(tensor)


def test_a_tensor_without_a_shape_is_a_row() -> None:
    assert from_tensor(types.TensorData([1.0, 2.0], "float32")) == TensorData([1.0, 2.0])


@given(datum=DATUMS)
def test_the_sdk_can_put_every_datum_on_the_wire(datum: Datum) -> None:
    asked = types.ForwardBackwardInput(data=[to_datum(datum)], loss_fn="cross_entropy", loss_fn_config=None)
    request = types.ForwardBackwardRequest(forward_backward_input=asked, model_id="run", seq_id=1)
    sent = forward_backward_request_to_proto(request).data[0]
    assert {name: sent.loss_fn_inputs[name].dense for name in sent.loss_fn_inputs} == bits(datum)


def test_other_chunks_and_provenance_are_refused_by_name() -> None:
    sound = tinker.ModelInput(chunks=[tinker.DmelChunk(dmel=b"sound")])
    with pytest.raises(UnsupportedError, match="DmelChunk"):
        from_datum(tinker.Datum(model_input=sound))
    span = tinker.PromptProvenanceSpan(length=1, sequence_id="s", offset=0)
    datum = tinker.Datum(tinker.ModelInput.from_ints([1]), {"target_tokens": [2]}).with_provenance([span], [span])
    with pytest.raises(UnsupportedError, match="provenance"):
        from_datum(datum)


@pytest.mark.parametrize("shape", [(3,), (3, 2)])
def test_weights_that_are_missing_are_ones_of_the_targets_shape(shape: tuple[int, ...]) -> None:
    datum = Datum(ModelInput.from_ints([1, 2, 3]), {"target_tokens": TensorData(np.zeros(shape, dtype=np.int64))})
    assert with_weights(datum).loss_fn_inputs["weights"] == TensorData(np.ones(shape, dtype=np.float32))
    assert with_weights(with_weights(datum, np.zeros(shape, np.float32))).loss_fn_inputs["weights"].data.sum() == 0


def test_every_field_of_an_optimizer_step_crosses() -> None:
    ours = AdamParams(learning_rate=1.0, beta1=0.2, beta2=0.3, eps=0.4, weight_decay=0.5, grad_clip_norm=0.6)
    assert to_adam(ours).model_dump() == ours.__dict__


@pytest.mark.parametrize(("stop", "sent"), [(None, None), ("a", "a"), ((), []), (("a", "b"), ["a", "b"]), ([3], [3])])
def test_every_field_of_a_draw_crosses(stop: object, sent: object) -> None:
    ours = SamplingParams(max_tokens=3, temperature=0.5, top_k=4, top_p=0.6, seed=7, stop=stop)
    assert to_params(ours).model_dump() == {**ours.__dict__, "stop": sent}


def test_a_tensor_sent_is_a_copy_that_the_sdk_may_write_to() -> None:
    ours = TensorData([1, 2])
    assert to_tensor(ours)._numpy.flags.writeable and ours.tolist() == [1, 2]
