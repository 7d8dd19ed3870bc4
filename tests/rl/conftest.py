"""What do the RL tests share? A tiny model in training on the real engine, and rollouts that it sampled."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from made_groups import Policy, policy_on

from crucible.train.rl.types import TrajectoryGroup


@pytest.fixture(scope="session")
def policy(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Policy]:
    """After a few steps of training, so that it is not the base model."""
    with policy_on(tiny_model, tmp_path_factory.mktemp("policy")) as policy:
        policy.learn(policy.rollouts(policy.base()))
        yield policy


@pytest.fixture(scope="session")
def rollouts(policy: Policy) -> list[TrajectoryGroup]:
    """Of the policy as it is; two turns each."""
    return policy.rollouts(policy.snapshot())
