"""With a real model: is a group repeated to the bit, alone and beside others, and are its logprobs the model's own?"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playing import CHAT, Echo, rolled

from crucible.adapters.torch import TorchBackend
from crucible.ports.datum import ModelInput
from crucible.ports.sampling_client import SamplingSession
from crucible.ports.training_client import SavedWeights, SessionConfig
from crucible.testing.fakes import FakeTokenizerStore
from crucible.train.rl.completer import SessionCompleter
from crucible.train.rl.problem_env import ProblemGroupBuilder
from crucible.train.rl.rollout import RolloutLimits
from crucible.train.rl.types import TrajectoryGroup

CONTEXT = 512
ONE_TOKEN = list(range(264))
"""Stops that end a turn with whatever token is sampled, so that a model of random weights takes many turns."""


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[TorchBackend]:
    made = TorchBackend(
        checkpoint_dir=tmp_path_factory.mktemp("saved"),
        resolve_model=lambda _: tiny_model,
        tokenizers=FakeTokenizerStore(),
        threads=1,
        device="cpu",
    )
    yield made
    made.close()


@pytest.fixture(scope="module")
def policy(backend: TorchBackend) -> tuple[SavedWeights, SamplingSession]:
    session = backend.training_client.start_session(SessionConfig(model="tiny", lora_rank=2)).result()
    saved = backend.training_client.save_weights_for_sampler(session, "policy").result()
    return saved, backend.sampling_client.start_session(model_path=saved.path).result()


async def group(backend: TorchBackend, policy: tuple[SavedWeights, SamplingSession], *, seed: int) -> TrajectoryGroup:
    builder = ProblemGroupBuilder(
        make_env=lambda seat: Echo(renderer=CHAT, seat=seat, turns=3, stop=ONE_TOKEN), group_size=4
    )
    saved, session = policy
    completer = SessionCompleter(
        backend.sampling_client, session, max_tokens=8, temperature=1.0, policy=saved, context_length=CONTEXT
    )
    limits = RolloutLimits(max_tokens=8, context_length=CONTEXT)
    return await rolled(builder, completer, seed=seed, limits=limits)


async def test_a_group_is_the_same_to_the_bit_alone_and_beside_other_groups(backend, policy) -> None:
    alone = await group(backend, policy, seed=1)
    _, beside, _ = await asyncio.gather(*(group(backend, policy, seed=seed) for seed in (2, 1, 3)))
    assert beside == alone
    assert max(len(one.transitions) for one in alone.trajectories) == 3


async def test_every_sampled_token_has_the_models_own_logprob_where_it_stands(backend, policy) -> None:
    _, session = policy
    sampled = await group(backend, policy, seed=4)
    for turn in [turn for one in sampled.trajectories for turn in one.transitions]:
        seen = turn.observation.to_ints()
        whole = ModelInput.from_ints([*seen, *turn.action.tokens])
        scored = await backend.sampling_client.compute_logprobs(session, whole)
        np.testing.assert_allclose(turn.action.logprobs, scored[len(seen) :], atol=1e-4)
