"""The tree of rollouts says of every attempt what it saw, said and earned, in data that JSON holds."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crucible.adapters.tokenizer import HfTokenizerStore
from crucible.ports.datum import EncodedTextChunk, ImageChunk, ModelInput
from crucible.train.rl.advantages import advantages
from crucible.train.rl.assembly import assemble
from crucible.train.rl.record import LearnedGroup, Rollouts, learned_group
from crucible.train.rl.rl_metrics import rollout_metrics
from crucible.train.rl.tree import StepTree, step_tree
from crucible.train.rl.tree_parts import parts_of
from crucible.train.rl.types import Trajectory, TrajectoryGroup
from crucible.train.token_texts import TokenReader
from sampled_groups import sample_groups


@pytest.fixture(scope="module")
def groups(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[TrajectoryGroup]:
    return sample_groups(tiny_model, tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module")
def reader(tiny_model: Path) -> TokenReader:
    return TokenReader(HfTokenizerStore(resolve_model=Path).load(str(tiny_model)))


def tree(groups: list[TrajectoryGroup], reader: TokenReader, /, *learned: LearnedGroup, **options: Any) -> StepTree:
    rollouts = Rollouts(step=3, purpose="step", groups=tuple(groups))
    return step_tree(rollouts, reader, learned={one.group: one for one in learned}, **options)


def test_a_tree_says_what_was_asked_answered_and_earned(groups: list[TrajectoryGroup], reader: TokenReader) -> None:
    group = tree(groups, reader).groups[1]
    assert group.prompt.endswith("Say 1 <b>&</b> once.<|im_end|>\n<|im_start|>assistant\n")
    assert group.first == [{"role": "user", "content": "Say 1 <b>&</b> once."}] and group.tags == ["say", "say/odd"]
    told, real = group.members[0], groups[1].trajectories[0]
    assert told.reward == groups[1].rewards[0] and told.ended == real.ended and told.turns[0].observed is None
    assert told.turns[1].observed is not None and "Again.<|im_end|>" in told.turns[1].observed
    assert told.turns[1].tokens == len(real.transitions[1].action.tokens)
    assert told.turns[0].lowest_logprob == min(real.transitions[0].action.logprobs)


def test_every_outcome_is_told_apart(groups: list[TrajectoryGroup], reader: TokenReader) -> None:
    failed, timed_out = tree(groups, reader).groups[0].members[3], tree(groups, reader).groups[0].members[2]
    assert failed.failure is not None and failed.failure.what == "the game's server is gone" and failed.reward is None
    verdict = timed_out.turns[-1].verdict
    assert verdict is not None and verdict.state == "timed_out" and not verdict.repeatable and timed_out.reward is None


def test_a_step_is_summed_up_over_all_its_groups(groups: list[TrajectoryGroup], reader: TokenReader) -> None:
    told = tree(groups, reader, groups=1)
    assert len(told.groups) == 1 and told.not_shown == 1 and told.metrics == rollout_metrics(groups)
    assert sum(told.ended.values()) == 8 and told.ended["failed"] == 2


def test_what_learning_made_of_a_member_is_with_it(groups: list[TrajectoryGroup], reader: TokenReader) -> None:
    learned = learned_group(0, advantages=[0.5, -0.5, None, None], left_out=["", "", "unscored", "failed"])
    told = tree(groups, reader, learned)
    assert [one.advantage for one in told.groups[0].members] == [0.5, -0.5, None, None]
    assert told.groups[0].members[3].left_out == "failed" and told.left_out == {"failed": 1, "unscored": 1}
    assert told.groups[1].members[0].left_out is None, "no record says"


def test_equal_rewards_have_no_spread(groups: list[TrajectoryGroup], reader: TokenReader) -> None:
    three = groups[0].trajectories[:1] * 3
    group = replace(
        groups[0], trajectories=three, group_rewards=(replace(groups[0].group_rewards[0], reward=-0.1),) * 3
    )
    assert len(set(group.rewards)) == 1 and tree([group], reader).groups[0].reward_std == 0.0


def test_the_tree_is_json_whatever_the_numbers_are(groups: list[TrajectoryGroup], reader: TokenReader) -> None:
    trajectory = groups[0].trajectories[0]
    turn = trajectory.transitions[-1]
    broken = replace(turn, action=replace(turn.action, logprobs=(math.nan,) * len(turn.action.tokens)))
    group = replace(
        groups[0], trajectories=(replace(trajectory, transitions=(broken,)),), group_rewards=groups[0].group_rewards[:1]
    )
    (told,) = json.loads(msgspec.json.encode(tree([group], reader)))["groups"][0]["members"]
    assert told["mean_logprob"] == "NaN" and told["turns"][0]["mean_logprob"] == "NaN"


def test_the_same_rollouts_make_the_same_tree(groups: list[TrajectoryGroup], reader: TokenReader) -> None:
    assert msgspec.json.encode(tree(groups, reader)) == msgspec.json.encode(tree(groups, reader))


def test_the_sequences_are_those_that_are_trained(groups: list[TrajectoryGroup]) -> None:
    history = groups[0].trajectories[0].transitions
    rewritten = replace(history[1], observation=ModelInput.from_ints([5, 6, 7]))
    trajectories = (groups[0].trajectories[0], Trajectory(transitions=(history[0], rewritten), ended="done"))
    group = replace(groups[0], trajectories=trajectories, group_rewards=groups[0].group_rewards[:2])
    datums = assemble([group], advantages([group], kind="group_mean"), loss="importance_sampling")
    parts = [(part.number, part.tokens) for one in trajectories for part in parts_of(one)]
    assert parts == [(datum.part, datum.sequence.to_ints()) for datum in datums] and len(parts) == 3


def test_images_and_empty_turns_have_their_place(groups: list[TrajectoryGroup], reader: TokenReader) -> None:
    turn = groups[0].trajectories[0].transitions[0]
    seen = ModelInput((EncodedTextChunk((72, 73)), ImageChunk(b"", "png", 2)))
    silent = replace(turn, observation=seen, action=replace(turn.action, tokens=(), logprobs=()))
    trajectory = Trajectory(transitions=(silent,), ended="cut")
    (part,) = parts_of(trajectory)
    assert part.tokens == [72, 73, -1, -1] and part.number is None
    group = replace(groups[0], trajectories=(trajectory,), group_rewards=groups[0].group_rewards[:1])
    assert tree([group], reader).groups[0].prompt.count("<|no text|>") == 2
