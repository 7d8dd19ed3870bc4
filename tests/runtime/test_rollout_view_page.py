"""The page of an RL run holds its tree as data, whose turns point at the tokens that they are of."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rollout_runs import record_step, viewed, write_run
from test_token_page import data_of

from crucible.runtime.rollout_tree_file import tree_file
from crucible.runtime.token_page import page
from crucible.runtime.token_rows import Inspection
from crucible.train.rl.types import Failure, TrajectoryGroup

HOSTILE = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(1)> %SCRIPT% \u2028"


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TrajectoryGroup]]:
    folder = tmp_path_factory.mktemp("runs") / "rl"
    return folder, write_run(tiny_model, folder)


@pytest.fixture(scope="module")
def seen(tiny_model: Path, made: tuple[Path, list[TrajectoryGroup]]) -> Inspection:
    return viewed(tiny_model, made[0])


def turns_of(data: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [group for step in data["rollouts"]["steps"] for group in step["groups"]]
    return [turn for group in groups for member in group["members"] for turn in member["turns"]]


def test_every_turn_points_at_its_own_tokens(seen: Inspection, made: tuple[Path, list[TrajectoryGroup]]) -> None:
    data = data_of(page(seen))
    ids = [[data["pieces"][piece][0] for piece in row["tokens"]] for row in data["rows"]]
    told = [ids[turn["row"]][turn["acted"] : turn["end"]] for turn in turns_of(data)]
    groups = [*made[1][:4], made[1][0], *made[1][4:]]  # the evaluation stands behind the second step
    real = [list(turn.action.tokens) for group in groups for one in group.trajectories for turn in one.transitions]
    assert told == real


def test_a_turns_text_is_in_the_page_once(seen: Inspection) -> None:
    assert all("answered" not in turn and "observed" not in turn for turn in turns_of(data_of(page(seen))))


def test_a_page_of_data_has_no_rollouts() -> None:
    assert data_of(page(Inspection(title="data", facts={}, notes=(), rows=())))["rollouts"] is None


def test_what_rollouts_hold_stays_data(
    tiny_model: Path, tmp_path: Path, seen: Inspection, made: tuple[Path, list[TrajectoryGroup]]
) -> None:
    group = made[1][0]
    failed = replace(group.trajectories[0], failure=Failure(kind=HOSTILE, what=HOSTILE))
    hostile = replace(group, problem=HOSTILE, tags=(HOSTILE,), trajectories=(failed, *group.trajectories[1:]))
    record_step(tmp_path, 1, [hostile])
    text = page(viewed(tiny_model, tmp_path))
    assert _tags(text) == _tags(page(seen)) and text.count("<script") == 2
    (step,) = data_of(text)["rollouts"]["steps"]
    assert step["groups"][0]["problem"] == HOSTILE


def test_the_tree_as_a_file_is_the_tree_as_shown(seen: Inspection) -> None:
    assert seen.rollouts is not None
    told = msgspec.json.decode(tree_file(seen, seen.rollouts))
    assert told["steps"] == msgspec.to_builtins(list(seen.rollouts.steps))
    assert [point["step"] for point in told["curve"]] == [1, 2, 2, 3]


def _tags(text: str) -> list[str]:
    found: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append(tag + "".join(sorted(name for name, _ in attrs)))

    Tags().feed(text)
    return found
