"""Which laws do the losses keep, whatever the data? They add up, are linear, agree on-policy, leave prompts alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rl_data import Bench, relative, with_inputs

from crucible.engine.losses import LOSSES
from crucible.errors import DataError
from crucible.ports.datum import Datum

RATIO_LOSSES = tuple(name for name in LOSSES if name != "cross_entropy")


@pytest.fixture(scope="module")
def bench(model_folder: Callable[[str], Path]) -> Bench:
    return Bench.of(model_folder("llama"))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 999),
    loss_fn=st.sampled_from(sorted(LOSSES)),
    lengths=st.lists(st.integers(1, 20), min_size=2, max_size=5),
    token_budget=st.sampled_from([1, 25, 1000]),
)
def test_datums_add_up_however_they_are_split(
    bench: Bench,
    seed: int,
    loss_fn: str,
    lengths: list[int],
    token_budget: int,
) -> None:
    data = bench.examples(lengths, loss_fn, seed=seed)
    whole = bench.score(data, loss_fn, token_budget=token_budget)
    parts = [bench.score([example], loss_fn) for example in data]
    assert whole.total_loss == pytest.approx(sum(part.total_loss for part in parts), rel=1e-4, abs=1e-4)
    assert whole.gradients is not None
    added = [torch.stack(list(each)).sum(0) for each in zip(*(part.gradients or () for part in parts), strict=True)]
    assert relative(whole.gradients, added) < 1e-4
    sums = [key for key in whole.metrics if key.endswith(":sum")]
    assert {key: whole.metrics[key] for key in sums} == pytest.approx(
        {key: sum(part.metrics[key] for part in parts) for key in sums}, rel=1e-4, abs=1e-4
    )
    for reduce, key in ((min, "ratio:min"), (max, "ratio:max")):
        found = [part.metrics[key] for part in parts if key in part.metrics]
        assert whole.metrics.get(key) == (pytest.approx(reduce(found), rel=1e-4) if found else None)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), factor=st.floats(-3, 3).filter(lambda value: abs(value) > 0.1))
def test_importance_sampling_is_linear_in_the_advantages(bench: Bench, seed: int, factor: float) -> None:
    data = bench.examples((9, 14), "importance_sampling", seed=seed)
    scaled = [with_inputs(e, advantages=e.loss_fn_inputs["advantages"].data * np.float32(factor)) for e in data]
    plain, times = (bench.score(each, "importance_sampling") for each in (data, scaled))
    assert plain.gradients is not None and times.gradients is not None
    assert times.total_loss == pytest.approx(factor * plain.total_loss, rel=1e-4, abs=1e-4)
    assert relative(times.gradients, [factor * gradient for gradient in plain.gradients]) < 1e-5


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), loss_fn=st.sampled_from(RATIO_LOSSES))
def test_on_policy_every_loss_has_the_gradient_of_the_policy_gradient(bench: Bench, seed: int, loss_fn: str) -> None:
    data = bench.examples((9, 14), loss_fn, seed=seed, noise=0.0)
    weighted = [
        Datum(
            e.model_input,
            {
                name: e.loss_fn_inputs[of]
                for name, of in (("target_tokens", "target_tokens"), ("weights", "advantages"))
            },
        )
        for e in data
    ]
    ours = bench.score(data, loss_fn).gradients
    theirs = bench.score(weighted, "cross_entropy").gradients
    assert ours is not None and theirs is not None
    assert relative(ours, theirs) < 1e-4


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999))
def test_inside_the_clip_ppo_is_importance_sampling(bench: Bench, seed: int) -> None:
    data = bench.examples((9, 14), "ppo", seed=seed, noise=0.5)
    wide = {"clip_low_threshold": 0.0, "clip_high_threshold": 1e9}
    clipped, free = bench.score(data, "ppo", **wide), bench.score(data, "importance_sampling")
    assert clipped.gradients is not None and free.gradients is not None
    assert clipped.total_loss == free.total_loss
    assert all(torch.equal(left, right) for left, right in zip(clipped.gradients, free.gradients, strict=True))


@pytest.mark.parametrize("loss_fn", RATIO_LOSSES)
def test_a_prompt_has_no_loss_whatever_its_targets_are(bench: Bench, loss_fn: str) -> None:
    data = bench.examples((12, 15), loss_fn)
    others: list[Datum] = []
    for example in data:
        targets, q, a = (example.loss_fn_inputs[name].data for name in ("target_tokens", "logprobs", "advantages"))
        others.append(with_inputs(example, target_tokens=np.where((q == 0) & (a == 0), 7, targets)))
    assert others != data
    ours, theirs = (bench.score(each, loss_fn) for each in (data, others))
    assert ours.total_loss == theirs.total_loss
    assert ours.gradients is not None and theirs.gradients is not None
    assert all(torch.equal(left, right) for left, right in zip(ours.gradients, theirs.gradients, strict=True))


def test_rows_of_different_widths_score_as_they_do_alone(bench: Bench) -> None:
    widths = ((4, None), (7, 3), (5, 1))
    data = [bench.examples((length,), "importance_sampling", targets=targets)[0] for length, targets in widths]
    together = bench.score(data, "importance_sampling")
    assert [own.shape for own in together.logprobs] == [(4,), (7, 3), (5, 1)]
    for index, example in enumerate(data):
        alone = bench.score([example], "importance_sampling")
        np.testing.assert_allclose(together.logprobs[index], alone.logprobs[0], atol=1e-5)
        np.testing.assert_allclose(together.losses[index], alone.losses[0], rtol=1e-4, atol=1e-5)


def test_a_ratio_beyond_float32_is_refused_by_its_datum_unless_it_has_no_advantage(bench: Bench) -> None:
    good, drawn = bench.examples((6, 6), "importance_sampling", targets=2)
    far = [[-300.0, -300.0]] * 6
    bench.score([good, with_inputs(drawn, logprobs=far, advantages=np.zeros((6, 2)))], "importance_sampling")
    bad = with_inputs(drawn, logprobs=far, advantages=[[0.0, float(place == 4)] for place in range(6)])
    with pytest.raises(DataError, match=r"datum 1: .*ratio.*position 4"):
        bench.score([good, bad], "importance_sampling")


def test_advantages_may_be_whole_numbers(bench: Bench) -> None:
    (example,) = bench.examples((8,), "importance_sampling")
    signs = np.sign(example.loss_fn_inputs["advantages"].data)
    both = [with_inputs(example, advantages=signs.astype(kind)) for kind in (np.int64, np.float32)]
    assert len({bench.score([each], "importance_sampling").total_loss for each in both}) == 1
