"""Does SmolLM2 begin the default task of `rl_basic` with a reward that leaves something to learn?"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playing import Recorded

from crucible.adapters.assets import resolve_model
from crucible.adapters.tokenizer import HfTokenizerStore
from crucible.adapters.torch import TorchBackend
from crucible.train.rl.completer import SessionCompleter
from crucible.train.rl.environments.environment import EnvironmentRequest
from crucible.train.rl.environments.registry import find_environment, load_environment
from crucible.train.rl.environments.self_check import self_check
from crucible.train.rl.rollout import RolloutLimits, rollout_group
from crucible.train.rl.types import TrajectoryGroup

MODEL = "smollm2-135m"
SPEC = "arithmetic:max"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchBackend]:
    folder: Path = tmp_path_factory.mktemp("checkpoints")
    tokenizers = HfTokenizerStore(resolve_model=resolve_model)
    made = TorchBackend(
        checkpoint_dir=folder, resolve_model=resolve_model, tokenizers=tokenizers, threads=1, device="cpu"
    )
    yield made
    made.close()


async def test_64_completions_of_the_base_model_earn_between_a_quarter_and_two_thirds(backend: TorchBackend) -> None:
    groups = await first_batch(backend)
    rewards = [reward for group in groups for reward in group.rewards if reward is not None]
    assert len(rewards) == 64
    assert 0.25 < sum(rewards) / 64 < 0.67
    assert sum(len(set(group.rewards)) > 1 for group in groups) >= 6, "groups in which there is something to learn"


async def first_batch(backend: TorchBackend) -> list[TrajectoryGroup]:
    """Eight problems, eight attempts at each, of the base model."""
    client = backend.sampling_client
    session = await client.start_session(base_model=MODEL)
    tokenizer, tokens = client.get_tokenizer(session), find_environment(SPEC)[0].tokens("max")
    problems = load_environment(SPEC, EnvironmentRequest(tokenizer=tokenizer, group_size=8, groups_per_batch=8, seed=0))
    checked = await self_check(problems, tokenizer=tokenizer, graders=Recorded(), problems=8)
    assert {one.state for one in checked} == {"passed"}
    completer = SessionCompleter(client, session, max_tokens=tokens, temperature=1.0, policy=None)
    limits = RolloutLimits(max_tokens=tokens)
    return [
        await rollout_group(builder, completer, index=index, seed=index, graders=Recorded(), step=0, limits=limits)
        for index, builder in enumerate(problems.get_batch(0))
    ]
