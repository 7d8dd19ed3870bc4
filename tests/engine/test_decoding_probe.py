"""Is it found out where a row's bits depend on the rows beside it?"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from completions import adapter, answers, decoder, loaded_model, request
from torch import Tensor

from crucible.engine.decoding_probe import prepare
from crucible.engine.lora import LoraLinear
from crucible.engine.packed_linear import PackedWeights


def test_the_widths_that_give_equal_bits_are_used(llama: Path) -> None:
    loaded = loaded_model(llama)
    assert prepare(loaded, slots=12).decoding == "slots of 4 or 8 or 12, exact"
    assert prepare(loaded, slots=2).decoding == "slots of 2, exact"
    assert prepare(loaded, slots=1).decoding == "one at a time: there is one slot"


def test_where_rows_touch_each_other_sequences_are_decoded_one_at_a_time(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = PackedWeights.product

    def leaking(self: PackedWeights, layer: LoraLinear, rows: Tensor) -> Tensor:
        return plain(self, layer, rows) + 1e-6 * rows.sum()

    monkeypatch.setattr(PackedWeights, "product", leaking)
    prepared = prepare(loaded_model(llama), slots=8)
    assert prepared.decoding == "one at a time: on this machine a row's bits depend on the rows beside it"
    assert prepared.widths == (1,)


def test_a_rank_whose_product_depends_on_the_rows_is_multiplied_row_by_row(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model(llama)

    def leaking(y: Tensor, x: Tensor, w: Tensor, *, alpha: float = 1) -> Tensor:
        return y.copy_(torch.addmm(y, x, w, alpha=alpha) + 1e-6 * (len(x) > 1) * (x.shape[1] == 4) * x.sum())

    monkeypatch.setattr(Tensor, "addmm_", leaking)
    prepared = prepare(loaded, slots=8)
    assert prepared.linears.one_by_one == {4}
    asked = request(samples=2, weights=adapter(loaded, rank=4))
    (alone,) = answers(decoder(loaded, prepared=prepared), asked)
    assert answers(decoder(loaded, prepared=prepared), request(samples=3), asked)[1] == alone


def test_a_model_of_experts_is_decoded_one_at_a_time(model_folder: Callable[[str], Path]) -> None:
    assert prepare(loaded_model(model_folder("qwen3_moe")), slots=8).reason.startswith(
        "the model sends tokens to experts"
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_packed_weights_compute_what_plain_ones_do(llama: Path, dtype: str) -> None:
    loaded = loaded_model(llama, dtype=dtype)
    packed, plain = PackedWeights(loaded), PackedWeights(loaded, pack=False)
    for layer in (each for kind in loaded.layers.values() for each in kind):
        rows = torch.randn(5, layer.in_features, dtype=layer.weight.dtype)
        torch.testing.assert_close(packed.product(layer, rows), plain.product(layer, rows), rtol=1e-2, atol=1e-4)


def test_rows_of_several_adapters_are_each_ones_own(llama: Path) -> None:
    loaded = loaded_model(llama)
    asked = [request(samples=2, weights=adapter(loaded, seed=seed, rank=rank)) for seed, rank in ((1, 4), (2, 3))]
    together = answers(decoder(loaded), *asked, request(samples=2))
    assert together == [answers(decoder(loaded), each)[0] for each in (*asked, request(samples=2))]
    assert len({response.sequences for response in together}) == 3
