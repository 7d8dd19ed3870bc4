"""Of a run's rollouts, every token is shown with the sampler's word on it and the trainer's, and what is left out is
said."""

import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from rollout_runs import record_step, viewed, write_run

from crucible.errors import ConfigError, DataError
from crucible.runtime.rollout_choice import choose
from crucible.runtime.token_rows import Inspection, StepPoint
from crucible.train.rl.record import learned_group, rollouts_file, write_learned
from crucible.train.rl.types import TrajectoryGroup
from crucible.train.token_record import read_record, record_files, write_record


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TrajectoryGroup]]:
    folder = tmp_path_factory.mktemp("runs") / "rl"
    return folder, write_run(tiny_model, folder)


@pytest.fixture
def run(made: tuple[Path, list[TrajectoryGroup]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "rl"))


@pytest.fixture
def seen(tiny_model: Path, run: Path) -> Inspection:
    return viewed(tiny_model, run)


def point(step: int, mean: float | None, *, tokens: int = 10) -> StepPoint:
    metrics = {} if mean is None else {"reward/mean": mean}
    return StepPoint(purpose="step", step=step, metrics=metrics, lowest=mean, highest=mean, ended={}, tokens=tokens)


def test_every_sequence_is_a_row_with_the_samplers_logprobs(
    seen: Inspection, made: tuple[Path, list[TrajectoryGroup]]
) -> None:
    assert len(seen.rows) == 3 * 8 + 4 and seen.notes == ()
    last = made[1][-1].trajectories[0]
    (row,) = [one for one in seen.rows if one.rollout is not None and one.origin == "row 5, group 5, member 0"]
    sampled = [value for value in row.sampler_logprobs or () if value is not None]
    assert sampled == [value for turn in last.transitions for value in turn.action.logprobs]
    assert row.policy_version == 0 and row.step == 3


def test_what_was_trained_has_the_trainers_logprobs_and_they_agree(seen: Inspection) -> None:
    trained = [row for row in seen.rows if row.logprobs is not None]
    assert {row.step for row in trained} == {3} and len(trained) == 4
    gaps = [
        value - sampled
        for row in trained
        for value, place in row.trained_logprobs
        if (sampled := (row.sampler_logprobs or ())[place]) is not None
    ]
    assert len(gaps) > 60 and max(map(abs, gaps)) < 1e-4


def test_advantages_stand_on_what_was_sampled_even_where_no_token_record_is(seen: Inspection) -> None:
    (row,) = [one for one in seen.rows if one.origin == "row 0, group 0, member 1" and one.step == 1]
    (group,) = [one for one in seen.rollouts.steps[0].groups if one.index == 0] if seen.rollouts else []
    advantage = group.members[1].advantage
    assert advantage and [value for value in row.advantages or () if value is not None] == [advantage] * len(
        row.trained
    )
    assert row.logprobs is None and len(row.trained) == group.members[1].tokens


def test_who_trained_nothing_has_no_trained_token(seen: Inspection) -> None:
    idle = [row for row in seen.rows if "member 3" in row.origin]
    assert idle and all(row.trained == [] and row.advantages is None for row in idle)


def test_an_evaluation_stands_behind_its_step(seen: Inspection) -> None:
    assert seen.rollouts is not None
    assert [(one.purpose, one.step) for one in seen.rollouts.curve] == [
        ("step", 1),
        ("step", 2),
        ("eval", 2),
        ("step", 3),
    ]
    assert all(one.shown for one in seen.rollouts.curve) and seen.rollouts.last.step == 3


def test_a_single_step_is_shown_with_its_evaluation(tiny_model: Path, run: Path) -> None:
    found = viewed(tiny_model, run, step=2)
    assert found.rollouts is not None and {row.step for row in found.rows} == {2}
    assert [one.purpose for one in found.rollouts.steps] == ["step", "eval"]


def test_a_step_that_is_not_there_is_refused_with_those_that_are(tiny_model: Path, run: Path) -> None:
    with pytest.raises(ConfigError, match="Recorded: 1, 2, 3"):
        viewed(tiny_model, run, step=9)


def test_a_long_run_is_cut_to_what_a_page_holds_and_says_so(tiny_model: Path, run: Path) -> None:
    size = sum(len(row.ids) for row in viewed(tiny_model, run, step=3).rows)
    found = viewed(tiny_model, run, tokens=size)
    assert found.rollouts is not None and [one.step for one in found.rollouts.steps] == [3]
    assert len(found.rollouts.curve) == 4 and "1 of 4 recorded steps" in found.notes[0]


def test_of_a_huge_step_the_first_groups_are_shown_and_the_rest_counted(tiny_model: Path, run: Path) -> None:
    found = viewed(tiny_model, run, tokens=1)
    assert found.rollouts is not None and [one.index for one in found.rollouts.last.groups] == [4]
    assert found.rollouts.last.not_shown == 1 and "step 3: 1 further group(s) are not shown" in found.notes


def test_the_steps_that_tell_most_are_shown_first() -> None:
    curve = [point(step, 0.1 * step if step < 60 else 0.05 * step) for step in range(1, 101)]
    assert choose(curve, tokens=10) == [99]
    assert choose(curve, tokens=40) == [0, 58, 59, 99], "the last, the first, and the two round the largest fall"
    assert len(choose(curve, tokens=500)) == 50 and choose(curve, tokens=1000) == list(range(100))
    assert choose([point(1, None), point(2, None, tokens=99)], tokens=9) == [1] and choose([], tokens=9) == []


def test_training_on_other_tokens_than_were_sampled_is_a_problem(tiny_model: Path, run: Path) -> None:
    (file,) = record_files(run)
    record = read_record(file)
    first = record.rows[0]
    other = msgspec.structs.replace(first, tokens=[*first.tokens[:-1], first.tokens[-1] + 1])
    write_record(run, msgspec.structs.replace(record, rows=[other, *record.rows[1:]]))
    (told,) = [row for row in viewed(tiny_model, run).rows if row.problems]
    assert "is not what was sampled" in told.problems[0] and f"{len(first.tokens) - 1} of them" in told.problems[0]


def test_a_trained_row_that_no_rollout_explains_is_shown_too(tiny_model: Path, run: Path) -> None:
    (file,) = record_files(run)
    record = read_record(file)
    write_record(
        run, msgspec.structs.replace(record, rows=[msgspec.structs.replace(record.rows[0], origin="a.jsonl:1")])
    )
    assert [row.origin for row in viewed(tiny_model, run).rows if row.rollout is None] == ["a.jsonl:1"]


def test_advantages_of_another_number_of_members_are_left_out_with_a_note(tiny_model: Path, run: Path) -> None:
    write_learned(run, 1, [learned_group(0, advantages=[1.0])])
    found = viewed(tiny_model, run, step=1)
    assert any("another number of members" in note for note in found.notes)
    assert found.rollouts is not None and found.rollouts.last.groups[0].members[0].left_out is None


def test_every_damaged_record_is_named(tiny_model: Path, run: Path) -> None:
    for step in (1, 3):
        rollouts_file(run, step).write_bytes(rollouts_file(run, step).read_bytes()[:-30])
    with pytest.raises(DataError, match=r"(?s)step-00000001.*step-00000003"):
        viewed(tiny_model, run)


def test_groups_of_which_no_member_lived_are_shown(
    tiny_model: Path, run: Path, made: tuple[Path, list[TrajectoryGroup]]
) -> None:
    group = made[1][0]
    dead = tuple(replace(group.trajectories[3], transitions=()) for _ in range(4))
    record_step(run, 4, [replace(group, trajectories=dead)])
    found = viewed(tiny_model, run, step=4)
    assert found.rollouts is not None and found.rows == () and found.rollouts.last.groups[0].prompt == ""
    assert list(found.rollouts.last.left_out.values()) == [4] and len(found.rollouts.last.groups[0].members) == 4
