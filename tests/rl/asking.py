"""What do the tests of environments ask for, and how do they play?"""

from collections.abc import Sequence
from typing import Any

from playing import CHAT, TOKENIZER, action

from crucible.adapters.datasets import MemoryStore
from crucible.ports.datum import ModelInput
from crucible.train.graders.graders import Graders
from crucible.train.rl.environments.environment import EnvironmentRequest, Split
from crucible.train.rl.environments.registry import load_environment
from crucible.train.rl.types import Env, EnvGroupBuilder, RLDataset, StepResult, Surroundings


def request(*, split: Split = "train", rows: int | None = None, seed: int = 0, **given: Any) -> EnvironmentRequest:
    """Groups of two, two to a batch, over bytes; `given` are the environment's options, `data` its rows by name."""
    data = given.pop("data", {})
    return EnvironmentRequest(
        tokenizer=TOKENIZER,
        renderer=CHAT,
        datasets=MemoryStore({name: {"train": lines} for name, lines in data.items()}),
        group_size=given.pop("group_size", 2),
        groups_per_batch=2,
        seed=seed,
        split=split,
        rows=rows,
        options=given,
    )


def builders(dataset: RLDataset) -> list[EnvGroupBuilder]:
    """Those of the first epoch, in order."""
    return [builder for batch in range(len(dataset)) for builder in dataset.get_batch(batch)]


def names(dataset: RLDataset) -> list[str]:
    """Which problems come in the first epoch, in order."""
    return [builder.problem for builder in builders(dataset)]


async def first_env(spec: str, graders: Graders, **given: Any) -> Env:
    """The first member's environment of the first problem that is held out (their order is no seed's)."""
    [builder, *_] = load_environment(spec, request(split="eval", **given)).get_batch(0)
    [env, *_] = await builder.make_envs(Surroundings(seed=3, graders=graders, place="0/0"))
    return env


async def prompt_of(env: Env) -> str:
    """What the policy sees first."""
    observation, _ = await env.initial_observation()
    return shown(observation)


async def answered(env: Env, *texts: str) -> StepResult:
    """The result of the last of these turns."""
    results: Sequence[StepResult] = [await env.step(action(text)) for text in texts]
    return results[-1]


def shown(observation: ModelInput | None) -> str:
    """The text that the policy sees."""
    return TOKENIZER.decode(observation.to_ints()) if observation is not None else ""
