"""Is every datum checked before anything is computed, and every fault named with its index?"""

import numpy as np
import pytest
from tiny_models import datum

from crucible.engine.losses import LOSSES
from crucible.engine.rows import Row, rows_of
from crucible.errors import DataError, UnsupportedError
from crucible.ports.datum import Datum, ImageChunk, ModelInput, TensorData


def rows(*examples: Datum, loss_fn: str = "cross_entropy") -> list[Row]:
    return rows_of(examples, LOSSES[loss_fn], vocab_size=300, context_length=20)


def changed(**tensors: object) -> Datum:
    """A good datum of four tokens with tensors replaced; None takes one away."""
    good = datum(4)
    kept = {**{name: data.data for name, data in good.loss_fn_inputs.items()}, **tensors}
    return Datum(good.model_input, {name: TensorData(data) for name, data in kept.items() if data is not None})


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (changed(target_tokens=None), "lacks 'target_tokens'"),
        (changed(target_tokens=[1, 2, 3]), r"'target_tokens' has shape \(3,\), and the sequence has 4 tokens"),
        (changed(target_tokens=[[1], [2], [3], [4]]), r"'weights' has shape \(4,\), and 'target_tokens' has.*\(4, 1\)"),
        (
            changed(target_tokens=np.ones((4, 2, 1), int)),
            r"'target_tokens' has shape \(4, 2, 1\), .*\(N,\) or \(N, K\)",
        ),
        (changed(target_tokens=np.ones((4, 0), int)), r"'target_tokens' has shape \(4, 0\)"),
        (changed(mask=[0.0, 0.0, 1.0, 1.0]), "loss_fn_inputs holds 'mask', which this loss does not read .*weights"),
        (changed(target_tokens=[1.0, 2.0, 3.0, 4.0]), "'target_tokens' holds float32 numbers, not token ids"),
        (changed(target_tokens=[1, 2, 3, 300]), "target token is outside the vocabulary of 300"),
        (changed(target_tokens=[1, 2, 3, -100]), "target token is outside the vocabulary of 300"),
        (changed(weights=[1.0]), r"'weights' has shape \(1,\)"),
        (changed(weights=[1.0, np.nan, 1.0, 1.0]), "'weights' holds a number that is not finite"),
        (Datum(ModelInput.from_ints([1, 2, 3, 300]), datum(4).loss_fn_inputs), "input token is outside the vocabulary"),
        (datum(21), "the sequence has 21 tokens, and the model's context is 20"),
        (Datum(ModelInput(()), {"target_tokens": TensorData(np.zeros(0, np.int64))}), "the sequence has no tokens"),
    ],
)
def test_a_fault_is_named_with_the_datums_index(bad: Datum, complaint: str) -> None:
    with pytest.raises(DataError, match=f"datum 1: .*{complaint}"):
        rows(datum(4), bad)


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(DataError) as raised:
        rows(changed(target_tokens=None, weights=[1.0]), datum(5), datum(30))
    assert [problem.where for problem in raised.value.problems] == ["datum 0", "datum 0", "datum 2"]


def test_an_image_is_refused_by_its_datums_index() -> None:
    image = Datum(ModelInput((ImageChunk(b"", "png", 4),)), datum(4).loss_fn_inputs)
    with pytest.raises(UnsupportedError, match="datum 1"):
        rows(datum(4), image)


def sampled(**tensors: object) -> Datum:
    """A good datum of four sampled tokens with tensors replaced; None takes one away."""
    return changed(
        **{"weights": None, "logprobs": [0.0, -1.0, -2.0, -0.5], "advantages": [0.0, 1.0, 1.0, 1.0], **tensors}
    )


@pytest.mark.parametrize(
    ("loss_fn", "bad", "complaint"),
    [
        ("ppo", sampled(logprobs=None), "lacks 'logprobs'"),
        ("cispo", sampled(advantages=None), "lacks 'advantages'"),
        ("gspo", sampled(), "lacks 'sequence_ratio_mask'"),
        ("importance_sampling", sampled(logprobs=[0.0, -1.0, np.nan, -0.5]), "'logprobs' holds a number that is not"),
        ("dro", sampled(advantages=[0.0, np.inf, 0.0, 0.0]), "'advantages' holds a number that is not finite"),
        ("dro", sampled(advantages=[1.0]), r"'advantages' has shape \(1,\), and the sequence has 4 tokens"),
        ("ppo", sampled(weights=[1.0] * 4), "holds 'weights', which this loss does not read .*logprobs, advantages"),
        (
            "ppo",
            sampled(target_tokens=np.ones((4, 2), int)),
            r"'target_tokens' has shape \(4, 2\), and this loss takes \(N,\)\.",
        ),
        (
            "importance_sampling",
            sampled(logprobs=np.zeros((4, 2))),
            r"'logprobs' has shape \(4, 2\), and 'target_tokens'",
        ),
        ("gspo", sampled(sequence_ratio_mask=[0.0] * 4), "'sequence_ratio_mask' marks no position"),
    ],
)
def test_a_faulty_sample_is_refused_by_datum_and_tensor(loss_fn: str, bad: Datum, complaint: str) -> None:
    with pytest.raises(DataError, match=rf"datum 1: .*{complaint}"):
        good = sampled(sequence_ratio_mask=[0.0, 1.0, 1.0, 1.0]) if loss_fn == "gspo" else sampled()
        rows(good, bad, loss_fn=loss_fn)


def test_a_position_is_active_where_its_loss_can_differ_from_zero() -> None:
    quiet = sampled(logprobs=[0.0, -1.0, 0.0, -0.5], advantages=[0.0, 0.0, 1.0, -1.0])
    active = {
        name: rows(quiet, loss_fn=name)[0].active.tolist() for name in ("importance_sampling", "ppo", "cispo", "dro")
    }
    assert active.pop("dro") == [False, True, True, True]  # its quadratic term has no advantage in it
    assert set(map(tuple, active.values())) == {(False, False, True, True)}


def test_one_of_several_targets_makes_a_position_active() -> None:
    (row,) = rows(changed(target_tokens=np.ones((4, 2), int), weights=[[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]))
    assert row.targets.shape == row.inputs["weights"].shape == (4, 2)
    assert row.active.tolist() == [False, True, True, False]


def test_missing_weights_are_one_and_whole_numbers_are_taken() -> None:
    bare, whole = rows(changed(weights=None), changed(weights=[1, 0, -2, 1]))
    assert bare.inputs["weights"].tolist() == [1.0] * 4
    assert whole.inputs["weights"].tolist() == [1.0, 0.0, -2.0, 1.0]
    assert whole.active.tolist() == [True, False, True, True]
