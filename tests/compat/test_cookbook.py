"""Do tinker-cookbook's recipes, as the package index has them, run to their end against `crucible serve`, and learn?

The commands are those of the cookbook's own tests/recipes where it has a test, with the tiny model's name, smaller
numbers, and a loss that is public (its default for RL, stable_reinforce, is refused by name).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cookbook import MODEL, crucible_serve, installed, run_recipe, write_data, write_longer_model

pytestmark = pytest.mark.slow

RL = ("lora_rank=8", "loss_fn=importance_sampling")
ARITHMETIC = ("env=arithmetic", "groups_per_batch=4", "group_size=4", "max_tokens=5", "eval_every=0", *RL)
GAME = ("renderer_name=role_colon", "max_tokens=8", "eval_every=0")
LEARNS = ("batch_size=8", "lora_rank=8", "learning_rate=1e-2")
DELETE = "behavior_if_log_dir_exists=delete"

SUPERVISED = {
    "sl_loop": ("sl_loop", (*LEARNS, "max_steps=5", "save_every=2")),
    "chat_sl": ("chat_sl.train", (*LEARNS, "dataset=conversations.jsonl", "max_steps=5", DELETE)),
    "prompt_distillation": (
        "prompt_distillation.train",
        (*LEARNS, "file_path=conversations.jsonl", "max_steps=5", DELETE),
    ),
}
REINFORCED = {
    "rl_loop": ("rl_loop", ("batch_size=4", "group_size=4", "max_tokens=8", "max_steps=2", "save_every=1", *RL)),
    "math_rl": ("math_rl.train", (*ARITHMETIC, "max_steps=2", DELETE)),
    "math_rl async": ("math_rl.train", (*ARITHMETIC, "max_steps=2", "max_steps_off_policy=2", DELETE)),
    "math_rl stream": (
        "math_rl.train",
        (
            *ARITHMETIC,
            "max_steps=2",
            "stream_minibatch_config.groups_per_batch=4",
            "stream_minibatch_config.num_minibatches=2",
            DELETE,
        ),
    ),
    "guess_number": (
        "multiplayer_rl.guess_number.train",
        (*GAME, "batch_size=2", "group_size=2", "max_steps=1", DELETE),
    ),
    "twenty_questions": (
        "multiplayer_rl.twenty_questions.train",
        (*GAME, "batch_size=2", "group_size=2", "num_epochs=1", "max_steps=1", DELETE),
    ),
    "text_arena": (
        "multiplayer_rl.text_arena.train",
        (*GAME, "batch_size=2", "num_train_datapoints=4", "num_test_datapoints=2", "max_steps=1", DELETE),
    ),
    "shorter": ("preference.shorter.train", (*GAME, "batch_size=2", "group_size=4", "max_steps=2", DELETE)),
    "on_policy_distillation": (
        "distillation.on_policy_distillation",
        (
            "groups_per_batch=2",
            "group_size=2",
            "max_tokens=8",
            "lora_rank=8",
            "dataset=deepmath",
            f"teacher_model={MODEL}",
            "eval_every=0",
            "max_steps=2",
            DELETE,
        ),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Kitchen:
    """An environment with the cookbook, a server, and a folder with what the recipes read."""

    python: Path
    url: str
    folder: Path

    def run(self, module: str, *arguments: str, log: Path) -> list[dict[str, float]]:
        """The metrics of a recipe."""
        return run_recipe(
            self.python, self.url, self.folder, module, f"model_name={MODEL}", f"log_path={log}", *arguments
        )


@pytest.fixture(scope="module")
def kitchen(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kitchen]:
    root = tmp_path_factory.mktemp("cookbook")
    model = write_longer_model(tiny_model, root / "model")
    folder = write_data(root / "work", model)
    python = installed(root / "env")
    with crucible_serve(model, root) as url:
        yield Kitchen(python=python, url=url, folder=folder)


@pytest.mark.parametrize(("module", "arguments"), SUPERVISED.values(), ids=SUPERVISED)
def test_a_supervised_recipe_runs_and_learns(
    kitchen: Kitchen, tmp_path: Path, module: str, arguments: tuple[str, ...]
) -> None:
    metrics = kitchen.run(module, *arguments, log=tmp_path / "run")
    losses = [row["train_mean_nll"] for row in metrics if "train_mean_nll" in row]
    assert len(losses) == 5
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(("module", "arguments"), REINFORCED.values(), ids=REINFORCED)
def test_a_reinforcement_recipe_runs_to_its_end(
    kitchen: Kitchen, tmp_path: Path, module: str, arguments: tuple[str, ...]
) -> None:
    metrics = kitchen.run(module, *arguments, log=tmp_path / "run")
    drift = [abs(value) for row in metrics for name, value in row.items() if name == "optim/kl_sample_train_v1"]
    assert metrics
    # Sampler and trainer agree on the tokens that were drawn; an asynchronous run has also its own steps between them.
    assert not drift or max(drift) < (1e-2 if "max_steps_off_policy=2" in arguments else 1e-4)


def test_dpo_raises_the_margin_through_a_custom_loss(kitchen: Kitchen, tmp_path: Path) -> None:
    arguments = ("dataset=hhh", "batch_size=4", "learning_rate=1e-3", "max_steps=4", DELETE)
    metrics = kitchen.run("preference.dpo.train", *arguments, log=tmp_path / "run")
    losses = [row["dpo_loss"] for row in metrics if "dpo_loss" in row]
    assert len(losses) == 4 and losses[0] == pytest.approx(0.693, abs=0.01) and losses[-1] < losses[0]


def test_a_run_that_was_cut_off_resumes_from_its_last_checkpoint(kitchen: Kitchen, tmp_path: Path) -> None:
    run, saving = tmp_path / "run", ("dataset=conversations.jsonl", *LEARNS, "save_every=2", "rolling_save_every=1")
    kitchen.run("chat_sl.train", *saving, "max_steps=3", DELETE, log=run)
    saved = [json.loads(line) for line in (run / "checkpoints.jsonl").read_text().splitlines()]
    kept = [each for each in saved if each["name"] != "final" and not each.get("rolling")]
    (run / "checkpoints.jsonl").write_text("".join(json.dumps(each) + "\n" for each in kept))  # it never got to its end
    metrics = kitchen.run("chat_sl.train", *saving, "max_steps=5", "behavior_if_log_dir_exists=resume", log=run)
    losses = {row["step"]: row["train_mean_nll"] for row in metrics if "train_mean_nll" in row}
    assert any(each.get("rolling") for each in saved)
    assert max(losses) == 4 and losses[4] < losses[0]
