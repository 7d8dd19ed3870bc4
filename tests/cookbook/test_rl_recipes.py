"""The RL recipes refuse at plan time what cannot be, and describe themselves."""

import pytest

import crucible
from crucible.cookbook import RECIPES
from crucible.errors import ConfigError
from crucible.framework import check, lift, lower
from crucible.kitchen.config import Layer
from crucible.kitchen.stages import STAGES

RL = ("rl_basic", "rl_grpo", "math_rl", "code_rl", "guess_number")
WRONG = {
    "clip_low": ({"loss": "importance_sampling", "clip_low": 0.8}, "no such setting"),
    "dro_beta": ({"loss": "ppo", "dro_beta": 0.1}, "no such setting"),
    "clip_high": ({"loss": "ppo", "clip_high": 0.2}, "ratio"),
    "length_norm": ({"loss": "dro", "length_norm": "sequence"}, "dro"),
    "num_substeps": ({"num_substeps": 9}, "parts"),
    "kl_coef": ({"stream_minibatches": 2, "kl_coef": 0.1}, "all groups"),
    "dynamic_sampling": ({"stream_minibatches": 2, "dynamic_sampling": 4}, "all groups"),
    "gradient_accumulation_steps": ({"stream_minibatches": 2, "gradient_accumulation_steps": 2}, "both say"),
    "schedule": ({"schedule": "opportunistic"}, "ahead"),
    "max_steps": ({"max_steps": 0}, "at least 1"),
    "warmup_steps": ({"max_steps": 3, "warmup_steps": 4}, "never be reached"),
    "overlong_buffer": ({"max_tokens": 4, "overlong_buffer": 5}, "lose reward"),
    "keep_best": ({"save_every": 3, "keep_best": 1, "eval_every": 2}, "evaluated"),
    "keep_checkpoints": ({"keep_checkpoints": 1}, "no periodic checkpoints"),
    "env": ({"env": "arithmatic"}, "Did you mean"),
    "env_options": ({"env_options": "[1]"}, "JSON object"),
    "group_size": ({"group_size": 1}, "2"),
    "temperature": ({"temperature": 0.0}, "0"),
}


@pytest.mark.parametrize("key", WRONG)
def test_what_cannot_be_is_said_with_its_key(key: str) -> None:
    config, words = WRONG[key]
    with pytest.raises(ConfigError, match=words) as caught:
        crucible.describe("rl_grpo").configure(Layer(origin="test", values=config))
    assert any(key in str(problem) for problem in caught.value.problems)


def test_all_that_is_wrong_is_said_at_once() -> None:
    config = {"loss": "ppo", "clip_high": 0.2, "max_steps": 0, "env": "nowhere"}
    with pytest.raises(ConfigError) as caught:
        crucible.describe("rl_grpo").configure(Layer(origin="test", values=config))
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("name", RL)
@pytest.mark.parametrize("preset", ["laptop", "seed"])
def test_every_preset_gives_a_workflow_that_the_plan_accepts(name: str, preset: str) -> None:
    recipe = crucible.describe(name)
    assert check(recipe.workflow(recipe.configure(preset=preset).value)) == []


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"stream_minibatches": 4},
        {"max_steps_off_policy": 3, "save_every": 2, "eval_every": 1},
        {"max_steps_off_policy": 1, "schedule": "opportunistic", "stream_minibatches": 2},
        {"num_substeps": 2, "kl_coef": 0.1, "dynamic_sampling": 8, "save_every_seconds": 60.0},
    ],
)
def test_every_mode_can_be_checked_and_written_down_and_read_back(config: dict[str, object]) -> None:
    recipe = crucible.describe("rl_grpo")
    workflow = recipe.workflow(recipe.configure(Layer(origin="test", values=config)).value)
    assert check(workflow) == []
    assert lift(lower(workflow, id="it"), {stage.__name__: stage for stage in STAGES}) == workflow


def test_the_recipes_are_listed() -> None:
    assert set(RL) <= {recipe.name for recipe in RECIPES}
