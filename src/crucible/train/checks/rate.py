"""Is the learning rate one that trains this model?"""

from crucible.errors import ConfigError
from crucible.ports.model_facts import ModelFacts
from crucible.train.checks.finding import Finding
from crucible.train.checks.seen import Examined
from crucible.train.hyperparameters import recommended_lr

SANE_FACTOR = 10.0
"""How far from the rule a rate may be: within it runs differ in speed, beyond it in kind."""
RUINOUS_FACTOR = 100.0
"""Above the rule by this much, LoRA training diverges: a slip of two zeros, not a choice."""
USUAL = (1e-6, 1e-2)
"""Where no rule is known: from the gentlest full fine-tuning to tiny models that bear a lot."""
RUINOUS = 0.3
"""The same, above which no model with LoRA was seen to learn."""


def learning_rate(examined: Examined) -> Finding:
    """The rate of what is examined, judged."""
    return judge_rate(examined.learning_rate, model=examined.model, facts=examined.facts, computes=examined.computes)


def judge_rate(rate: float | None, *, model: str, facts: ModelFacts | None, computes: bool) -> Finding:
    """Within a factor of 10 of the rule in `train/hyperparameters.py`; for other families, in a broad range."""
    if rate is None or not computes:
        why = "nothing is trained" if rate is None else "the backend computes nothing"
        return Finding(check="learning_rate", status="skipped", sentence=why)
    rule = _rule(model, facts)
    low, high = (rule / SANE_FACTOR, rule * SANE_FACTOR) if rule else USUAL
    beside = f"the rule for this model gives {rule:.1e}" if rule else "no rule is known for this model"
    told = f"{rate:.1e}; {beside}, and {low:.0e} to {high:.0e} is usual"
    if low <= rate <= high:
        return Finding(check="learning_rate", status="pass", sentence=told)
    side = "below" if rate < low else "above"
    return Finding(
        check="learning_rate",
        status="fail" if rate > (rule * RUINOUS_FACTOR if rule else RUINOUS) else "warn",
        sentence=f"{side} what trains well: {told}",
        where="learning_rate",
        fix=f"Try learning_rate={rule:.0e}" if rule else "Try learning_rate=2e-4",
    )


def _rule(model: str, facts: ModelFacts | None) -> float | None:
    """None where the model's sizes are not known, or the rule is not calibrated for its family."""
    if facts is None:
        return None
    for family in (facts.model_type, model):
        try:
            return recommended_lr(family, hidden_size=facts.hidden_size)
        except ConfigError:
            continue
    return None
