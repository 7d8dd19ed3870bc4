"""The rules of thumb give the numbers they were published with."""

import pytest

from crucible.errors import ConfigError
from crucible.train.hyperparameters import lora_parameter_count, recommended_lr


@pytest.mark.parametrize(
    ("family", "hidden_size", "lora", "expected"),
    [
        ("org/Llama-3.1-8B", 4096, True, 5e-4 * (2000 / 4096) ** 0.781),
        ("qwen3", 2560, False, 5e-5 * (2000 / 2560) ** 0.0775),
        ("llama", 2000, True, 5e-4),
    ],
)
def test_the_learning_rate_rule(family, hidden_size, lora, expected) -> None:
    assert recommended_lr(family, hidden_size=hidden_size, lora=lora) == pytest.approx(expected)


def test_a_family_without_a_calibrated_rule_gets_no_number() -> None:
    with pytest.raises(ConfigError, match="no learning rate is known"):
        recommended_lr("gpt2", hidden_size=768)
    with pytest.raises(ConfigError, match="hidden size"):
        recommended_lr("llama", hidden_size=0)


def test_smollm2_with_rank_32_on_all_linear_layers_has_the_known_parameter_count() -> None:
    layer = [(576, 576), (192, 576), (192, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536)]
    assert lora_parameter_count(layer * 30, rank=32) == 9_768_960
