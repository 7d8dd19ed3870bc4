"""Which learning rate suits a model, and how many parameters does its adapter have?"""

from collections.abc import Iterable, Mapping

from crucible.errors import ConfigError

_FULL_RATE = 5e-5
_LORA_FACTOR = 10.0
_REFERENCE_HIDDEN_SIZE = 2000
_EXPONENTS: Mapping[str, float] = {"llama": 0.781, "qwen": 0.0775}


def recommended_lr(family: str, *, hidden_size: int, lora: bool = True) -> float:
    """tinker-cookbook's rule: `5e-5 * (10 if lora else 1) * (2000 / hidden_size) ** p`.

    p is 0.781 for Llama and 0.0775 for Qwen; the factor of 10 is from "LoRA Without Regret".
    family: a model's name or its `model_type` (`llama`, `qwen3`, `org/Llama-3.1-8B`): whichever names the family.

    Raises:
        ConfigError: if the rule was not calibrated for that family, or the hidden size is not positive.
    """
    if hidden_size <= 0:
        raise ConfigError.of("a hidden size is positive", where="hidden_size", given=hidden_size)
    exponent = next((value for name, value in _EXPONENTS.items() if name in family.lower()), None)
    if exponent is None:
        raise ConfigError.of(
            "no learning rate is known to suit this model family",
            where="learning_rate",
            given=family,
            fix="Set learning_rate yourself; 1e-4 to 5e-4 is usual with LoRA",
        )
    return _FULL_RATE * (_LORA_FACTOR if lora else 1.0) * (_REFERENCE_HIDDEN_SIZE / hidden_size) ** exponent


def lora_parameter_count(shapes: Iterable[tuple[int, int]], *, rank: int) -> int:
    """Trained parameters of LoRA adapters on linear layers of these (out, in) shapes.

    Each layer has A (rank, in) and B (out, rank): `rank * (in + out)`.
    """
    return sum(rank * (out_features + in_features) for out_features, in_features in shapes)
