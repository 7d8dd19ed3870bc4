"""What is read from a record of rollouts is what was sampled, to the bit, and damage is named."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crucible.errors import DataError
from crucible.ports.datum import EncodedTextChunk, ImageChunk, ModelInput
from crucible.ports.sampling_client import Provenance
from crucible.train.graders.verdict import Verdict
from crucible.train.rl.record import (
    decode_group,
    encode_group,
    learned_group,
    place_of_row,
    read_learned,
    read_rollouts,
    rollout_files,
    rollouts_file,
    row_origin,
    write_learned,
    write_rollouts,
)
from crucible.train.rl.types import Action, GroupReward, StepResult, Trajectory, TrajectoryGroup, Transition
from sampled_groups import sample_groups


@pytest.fixture(scope="module")
def groups(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[TrajectoryGroup]:
    return sample_groups(tiny_model, tmp_path_factory.mktemp("engine"))


NUMBERS = st.floats(allow_nan=False)
TEXTS = st.text(max_size=5)
TOKENS = st.lists(st.integers(0, 200_000), max_size=4).map(tuple)
JSON_DATA = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=4,
)  # fmt: skip
CHUNKS = st.builds(EncodedTextChunk, TOKENS) | st.builds(
    ImageChunk, st.binary(max_size=9), st.sampled_from(["png", "jpeg"]), st.none() | st.integers(0, 9)
)
SEEN = st.lists(CHUNKS, max_size=3).map(lambda chunks: ModelInput(tuple(chunks)))
VERDICTS = st.builds(Verdict.of, st.floats(allow_nan=False, allow_infinity=False), TEXTS) | st.builds(
    Verdict.invalid, TEXTS, repeatable=st.booleans()
)
POLICIES = st.builds(
    Provenance, base_model=TEXTS, digest=TEXTS, policy_version=st.integers(-1, 99), temperature=NUMBERS
)


@st.composite
def turns(draw: st.DrawFn, *, grows: bool) -> tuple[Transition, ...]:
    found: list[Transition] = []
    seen = draw(SEEN)
    for _ in range(draw(st.integers(0, 2))):
        tokens, done = draw(TOKENS), draw(st.booleans())
        action = Action(
            tokens=tokens,
            logprobs=tuple(draw(st.lists(NUMBERS, min_size=len(tokens), max_size=len(tokens)))),
            stop_reason=draw(st.sampled_from(["stop", "length"])),
            seed=draw(st.integers(0, 2**31 - 1)),
            provenance=draw(POLICIES),
        )
        if grows and len(seen.chunks) == 1 and isinstance(seen.chunks[0], EncodedTextChunk):
            following = ModelInput.from_ints([*seen.chunks[0].tokens, *tokens, *draw(TOKENS)])
        else:
            following = draw(SEEN)
        result = StepResult(
            reward=draw(NUMBERS),
            episode_done=done,
            next_observation=None if done else following,
            next_stop=draw(st.just(("\n",)) | st.just((2, 3)) | st.just(())),
            metrics=draw(st.dictionaries(TEXTS, NUMBERS, max_size=2)),
            logs=draw(st.dictionaries(TEXTS, JSON_DATA, max_size=2)),
            verdict=draw(st.none() | VERDICTS),
            ended=draw(st.sampled_from(["done", "cut", "turns", "malformed"])),
        )
        found.append(Transition(observation=seen, action=action, result=result))
        seen = following if draw(st.booleans()) else draw(SEEN)
    return tuple(found)


def group_of(*members: tuple[Transition, ...], **changes: Any) -> TrajectoryGroup:
    made = TrajectoryGroup(
        index=4,
        problem="row 4",
        tags=("a",),
        trajectories=tuple(Trajectory(transitions=one, ended="done") for one in members),
        group_rewards=tuple(GroupReward(reward=0.5) for _ in members),
    )
    return replace(made, **changes)


def test_a_sampled_group_comes_back_as_it_was(groups: list[TrajectoryGroup]) -> None:
    for group in groups:
        assert decode_group(encode_group(group)) == group
        assert encode_group(decode_group(encode_group(group))) == encode_group(group)
    assert {one.ended for one in groups[0].trajectories} >= {"failed"} and groups[0].rewards[3] is None


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # how long it takes says nothing here
@given(st.lists(turns(grows=True) | turns(grows=False), max_size=2))
def test_any_group_comes_back_as_it_was(members: list[tuple[Transition, ...]]) -> None:
    group = group_of(*members)
    line = encode_group(group)
    assert decode_group(line) == group and encode_group(decode_group(line)) == line
    assert line.count(b"\n") == 1 and line.endswith(b"\n")


def test_a_groups_prompt_and_what_turns_repeat_are_written_once(groups: list[TrajectoryGroup]) -> None:
    line = json.loads(encode_group(groups[0]))
    seen = [[turn["seen"] for turn in member["turns"]] for member in line["members"]]
    assert all(one[0] == {"after": "prompt"} for one in seen) and len(line["prompt"]) > 20
    first, second = groups[0].trajectories[0].transitions
    added = second.observation.length - first.observation.length - len(first.action.tokens)
    assert seen[0][1]["after"] == "turn" and len(seen[0][1]["tokens"]) == added


def test_numbers_that_json_lacks_come_back_too(groups: list[TrajectoryGroup]) -> None:
    turn = groups[0].trajectories[0].transitions[0]
    action = replace(turn.action, tokens=(1, 2, 3), logprobs=(math.nan, -math.inf, -0.0))
    group = group_of((replace(turn, action=action),))
    told = decode_group(encode_group(group)).trajectories[0].transitions[0].action.logprobs
    assert math.isnan(told[0]) and told[1] == -math.inf and math.copysign(1, told[2]) == -1


def test_what_is_only_to_be_read_is_written_as_the_nearest_that_json_has(groups: list[TrajectoryGroup]) -> None:
    turn = groups[0].trajectories[0].transitions[0]
    logs = {"pair": (1, np.float32(0.5)), "score": math.nan, "text": "a\ud800"}
    group = group_of((replace(turn, result=replace(turn.result, logs=logs)),))
    told = decode_group(encode_group(group)).trajectories[0].transitions[0].result.logs
    assert told == {"pair": [1, 0.5], "score": "NaN", "text": "a\\ud800"}


@pytest.mark.parametrize("value", [object(), {1: "a"}, {"a"}, 2**70, b"x"])
def test_logs_that_are_no_json_data_are_refused_with_their_place(groups: list[TrajectoryGroup], value: object) -> None:
    turn = groups[0].trajectories[0].transitions[0]
    group = group_of((replace(turn, result=replace(turn.result, logs={"of": [value]})),))
    with pytest.raises(DataError, match=r"group 4, member 0, turn 0, logs\['of'\]\[0\]: is no JSON data"):
        encode_group(group)


def test_a_steps_rollouts_are_one_file_of_a_line_each(tmp_path: Path, groups: list[TrajectoryGroup]) -> None:
    path = write_rollouts(tmp_path, 12, groups)
    assert path == rollouts_file(tmp_path, 12) and path.name == "step-00000012.jsonl"
    assert read_rollouts(path).groups == tuple(groups) and read_rollouts(path).step == 12
    before = path.read_bytes()
    write_rollouts(tmp_path, 12, read_rollouts(path).groups)
    assert path.read_bytes() == before and len(before.splitlines()) == 3


def test_rollouts_of_an_evaluation_are_kept_apart(tmp_path: Path, groups: list[TrajectoryGroup]) -> None:
    write_rollouts(tmp_path, 2, groups)
    path = write_rollouts(tmp_path, 0, groups[:1], purpose="eval")
    assert rollout_files(tmp_path, "eval") == [path] and len(rollout_files(tmp_path)) == 1
    assert read_rollouts(path).purpose == "eval"


def test_a_step_that_cannot_be_written_leaves_the_one_that_was_there(
    tmp_path: Path, groups: list[TrajectoryGroup]
) -> None:
    path = write_rollouts(tmp_path, 1, groups)
    turn = groups[0].trajectories[0].transitions[0]
    with pytest.raises(DataError):
        write_rollouts(
            tmp_path, 1, [*groups, group_of((replace(turn, result=replace(turn.result, logs={"a": object()})),))]
        )
    assert read_rollouts(path).groups == tuple(groups) and len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize("keep", [0, 5, -2, -40, -4000])
def test_a_file_that_was_cut_anywhere_is_refused_by_name(
    tmp_path: Path, groups: list[TrajectoryGroup], keep: int
) -> None:
    path = write_rollouts(tmp_path, 1, groups)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="step-00000001") as failure:
        read_rollouts(path)
    assert len(str(failure.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"after":"prompt"', b'"after":"turn"'),
        (b'"stop_reason":"', b'"stop_reason":"x'),
        (b'"seed":', b'"seeds":'),
        (b'"state":"score","score":1.0', b'"state":"score"'),
    ],
)
def test_a_damaged_line_is_refused_with_its_number(
    tmp_path: Path, groups: list[TrajectoryGroup], old: bytes, new: bytes
) -> None:
    path = write_rollouts(tmp_path, 1, groups)
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(DataError, match=r"step-00000001.jsonl:2: is no whole group"):
        read_rollouts(path)


def test_a_record_of_a_newer_version_is_refused(tmp_path: Path, groups: list[TrajectoryGroup]) -> None:
    path = write_rollouts(tmp_path, 1, groups)
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":9', 1))
    with pytest.raises(DataError, match="version that this crucible does not know"):
        read_rollouts(path)


def test_what_learning_made_of_a_step_is_kept_beside_it(tmp_path: Path) -> None:
    told = [
        learned_group(3, advantages=[0.5, None, -0.5]),
        learned_group(4, advantages=[0.0], left_out=["constant"]),
    ]
    write_learned(tmp_path, 2, told)
    found = read_learned(tmp_path, 2)
    assert found == {3: told[0], 4: told[1]} and found[3].left_out == ["", "unscored", ""]
    assert read_learned(tmp_path, 1) == {} and rollout_files(tmp_path) == []


def test_a_trained_row_names_the_rollout_that_it_is_of() -> None:
    assert place_of_row(row_origin(12, 3, 1)) == (12, 3, 1)
    assert place_of_row("rows.jsonl:7") is None
