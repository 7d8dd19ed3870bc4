"""Does the packed attention refuse what it does not compute, and attend within each sequence otherwise?"""

import pytest
import torch
from transformers import DynamicCache

from crucible.engine.attention import _attention, packed
from crucible.engine.model import load_model
from crucible.engine.packing import Packing
from crucible.errors import ModelError


class Layer(torch.nn.Module):
    is_causal = True
    num_key_value_groups = 1


def heads(count: int, length: int) -> torch.Tensor:
    return torch.randn(1, count, length, 8, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize(("option", "value"), [("softcap", 30.0), ("s_aux", torch.ones(2)), ("dropout", 0.1)])
def test_an_option_that_would_change_the_result_is_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(ModelError, match=rf"Layer asks .*{option}"):
        _attention(Layer(), heads(2, 4), heads(2, 4), heads(2, 4), None, **{option: value})


def test_options_that_are_unset_are_no_reason_to_refuse() -> None:
    output, _ = _attention(Layer(), heads(2, 4), heads(2, 4), heads(2, 4), None, softcap=None, sliding_window=3)
    assert output.shape == (1, 4, 2, 8)


def test_a_model_that_makes_its_own_mask_is_refused() -> None:
    own = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    for mask in (None, own):
        with packed(Packing(lengths=(4,))), pytest.raises(ModelError, match="mask"):
            _attention(Layer(), heads(2, 4), heads(2, 4), heads(2, 4), mask)


def test_outside_packing_a_cached_step_is_the_plain_forwards_last_row(llama) -> None:
    model = load_model(llama, dtype="float32", device=torch.device("cpu")).model
    tokens, cache = torch.arange(9)[None], DynamicCache(config=model.config)
    with torch.no_grad():
        plain = model(input_ids=tokens, use_cache=False).logits[:, -1]
        model(input_ids=tokens[:, :6], past_key_values=cache, use_cache=True)
        model(input_ids=tokens[:, 6:8], past_key_values=cache, use_cache=True)
        stepped = model(input_ids=tokens[:, 8:], past_key_values=cache, use_cache=True).logits[:, -1]
    torch.testing.assert_close(stepped, plain, rtol=1e-4, atol=1e-4)
