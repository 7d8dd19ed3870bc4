"""Do parts of attention, over some of the keys each, give what attention over all of them does?"""

import pytest
import torch
from torch import Tensor

from crucible.engine.attention_part import HIDDEN, over_keys, over_prompt
from crucible.engine.attention_slots import Group, SlotAttention
from crucible.engine.kv_cache import PromptKv, SlotKv

HEADS, GROUPS, SIZE = 6, 2, 8


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def written_out(q: Tensor, keys: Tensor, values: Tensor, bias: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    scores = (q.double() @ keys.double().transpose(-2, -1)) * scale + bias
    return scores.softmax(dim=-1) @ values.double(), scores.logsumexp(dim=-1)


def everything(*_: Tensor) -> Tensor:
    return torch.tensor(True)


@pytest.mark.parametrize("value_size", [SIZE, 5], ids=["flash", "formula"])
def test_a_part_is_the_softmax_over_the_keys_that_are_seen_and_the_log_of_its_sum(value_size: int) -> None:
    q, keys = drawn(3, GROUPS, 4, SIZE, seed=1), drawn(3, GROUPS, 64, SIZE, seed=2)
    values, last = drawn(3, GROUPS, 64, value_size, seed=3), torch.tensor([[0], [7], [63]])
    bias = torch.where(torch.arange(64)[None] > last, HIDDEN, 0.0)[:, None, None]
    part = over_keys(q, keys, values, bias, 0.5)
    output, total = written_out(q, keys, values, bias, 0.5)
    torch.testing.assert_close(part.output.double(), output, rtol=0, atol=1e-5)
    torch.testing.assert_close(part.total.double(), total, rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 11])
def test_sequences_that_share_a_prompt_attend_to_it_as_each_would_alone(count: int) -> None:
    q = drawn(count, GROUPS, HEADS // GROUPS, SIZE, seed=1)
    keys, values = drawn(1, GROUPS, 128, SIZE, seed=2), drawn(1, GROUPS, 128, SIZE, seed=3)
    bias = torch.where(torch.arange(128)[None] >= 100, HIDDEN, 0.0)
    together = over_prompt(q, keys, values, bias, 1.0)
    for row in range(count):
        output, total = written_out(q[row], keys[0], values[0], bias, 1.0)
        torch.testing.assert_close(together.output[row].double(), output, rtol=0, atol=1e-5)
        torch.testing.assert_close(together.total[row].double(), total, rtol=0, atol=1e-5)


def test_a_prompts_part_and_a_slots_own_join_to_attention_over_both() -> None:
    prompt, kv, width = PromptKv(70), SlotKv(), 4
    keys, values = drawn(1, GROUPS, 70, SIZE, seed=1), drawn(1, GROUPS, 70, SIZE, seed=2)
    prompt.write(0, keys, values, start=0)
    kv.arrange([None] * width, capacity=64)
    q, key, value = (
        drawn(1, HEADS, width, SIZE, seed=3),
        drawn(1, GROUPS, width, SIZE, seed=4),
        drawn(1, GROUPS, width, SIZE, seed=5),
    )
    step = SlotAttention(
        kv,
        used=[0] * width,
        offsets=[70, 0, 70, 70],
        groups=[Group(prompt=prompt, slots=[0, 2, 3])],
        device=torch.device("cpu"),
    )
    found = step.attend(q, key, value, step.visible(everything, None), 1.0)[0]
    for slot in range(width):
        before = [] if slot == 1 else [(keys[0], values[0])]
        all_keys = torch.cat([*(pair[0] for pair in before), key[0, :, slot : slot + 1]], dim=1)
        all_values = torch.cat([*(pair[1] for pair in before), value[0, :, slot : slot + 1]], dim=1)
        per_group = q[0, :, slot].view(GROUPS, -1, SIZE)
        output, _ = written_out(per_group, all_keys, all_values, torch.zeros(1), 1.0)
        torch.testing.assert_close(found[slot].double(), output.flatten(0, 1), rtol=0, atol=1e-5)
