"""The page of an RL run in a real browser: the tree comes first, opens down to the token, and can be sifted."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chromium import Page, opened
from rollout_runs import record_step, viewed, write_run

from crucible.runtime.token_page import page
from crucible.train.graders.verdict import Verdict
from crucible.train.rl.types import Failure, TrajectoryGroup

pytestmark = [pytest.mark.npm, pytest.mark.slow]

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TrajectoryGroup]]:
    folder = tmp_path_factory.mktemp("runs") / "rl"
    return folder, write_run(tiny_model, folder)


@pytest.fixture(scope="module")
def file(tiny_model: Path, made: tuple[Path, list[TrajectoryGroup]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("pages") / "page.html"
    written.write_text(page(viewed(tiny_model, made[0])), encoding="utf-8")
    return written


@contextmanager
def shown(file: Path, **options: Any) -> Iterator[Page]:
    with opened(file, **options) as drawn:
        yield drawn
        assert drawn.complaints == [] and drawn.requests == [file.as_uri()], "it is quiet and asks for nothing"


def texts(drawn: Page, selector: str) -> list[str]:
    return drawn.evaluate(f"[...document.querySelectorAll({selector!r})].map(one => one.textContent)")


def choose(drawn: Page, name: str, value: str) -> None:
    there = f"document.getElementById({name!r})"
    drawn.evaluate(f"{there}.value = {value!r}; {there}.dispatchEvent(new Event('change'))")
    drawn.settle()


def click(drawn: Page, selector: str, place: int = 0) -> None:
    drawn.evaluate(f"document.querySelectorAll({selector!r})[{place}].click()")
    drawn.settle()


def left(drawn: Page) -> str:
    return drawn.evaluate("document.getElementById('left').textContent")


def test_the_last_steps_groups_come_first_with_rewards_and_verdicts(file: Path) -> None:
    with shown(file) as drawn:
        assert texts(drawn, "#tree h2") == ["Step 3"] and left(drawn) == "8 of 28 rollouts"
        assert (
            texts(drawn, ".problemname") == ["row 4", "row 5"] and "Say 4 <b>&</b> once." in texts(drawn, ".prompt")[0]
        )
        first, third = texts(drawn, "button.line")[0], texts(drawn, "button.line")[3]
        assert "timed out" in texts(drawn, "button.line")[1] and "cut" in first
        assert "failed" in third and "the game's server is gone" in third


def test_a_rollout_opens_to_its_turns_and_every_token(file: Path, made: tuple[Path, list[TrajectoryGroup]]) -> None:
    with shown(file) as drawn:
        click(drawn, "button.line")
        trajectory = made[1][4].trajectories[0]
        assert drawn.evaluate("document.querySelectorAll('.answered .t').length") == trajectory.tokens
        assert len(texts(drawn, ".turn")) == 2 and "verdict" in texts(drawn, ".turn")[1]
        drawn.evaluate("document.querySelectorAll('.answered .t')[2].focus()")
        told = drawn.evaluate("document.getElementById('token').textContent")
        logprob = f"{trajectory.transitions[0].action.logprobs[2]:.4f}".replace("-", "−")
        assert f"sampler logprob{logprob}" in told and "trainer − sampler" in told and "group 4, member 0" in told
        click(drawn, "button.line")
        assert drawn.evaluate("document.querySelectorAll('.turns').length") == 0


def test_the_colours_and_the_worst_tokens_work_within_rollouts(file: Path) -> None:
    with shown(file) as drawn:
        seen = set[str]()
        click(drawn, "button.line")
        for key in "12345":
            drawn.press(key)
            seen.add(" ".join(drawn.evaluate("[...document.querySelectorAll('.answered .t')].map(t => t.className)")))
        assert len(seen) >= 4
        drawn.press("w")
        assert drawn.evaluate("document.activeElement.closest('.member') !== null"), "the worst token's rollout is open"
        assert drawn.evaluate("document.getElementById('rank').textContent").startswith("1 of")


@pytest.mark.parametrize(
    ("name", "value", "lines"),
    [("ended", "failed", 2), ("verdict", "timed_out", 2), ("tag", "say/odd", 4), ("trained", "trained", 4)],
)
def test_rollouts_are_sifted(file: Path, name: str, value: str, lines: int) -> None:
    with shown(file) as drawn:
        choose(drawn, name, value)
        assert len(texts(drawn, "button.line")) == lines and left(drawn) == f"{lines} of 28 rollouts"
        drawn.press("Escape")
        assert left(drawn) == "28 of 28 rollouts"


def test_rollouts_are_sifted_by_reward(file: Path, made: tuple[Path, list[TrajectoryGroup]]) -> None:
    rewards = [reward for group in made[1][4:] for reward in group.rewards if reward is not None]
    with shown(file) as drawn:
        choose(drawn, "from", str(max(rewards)))
        drawn.evaluate("document.getElementById('from').dispatchEvent(new Event('input'))")
        drawn.evaluate("new Promise(done => setTimeout(done, 250))")
        assert len(texts(drawn, "button.line")) == rewards.count(max(rewards))


def test_members_are_sorted_by_a_column_and_groups_by_their_reward(
    file: Path, made: tuple[Path, list[TrajectoryGroup]]
) -> None:
    with shown(file) as drawn:
        click(drawn, ".heads button", 1)
        click(drawn, ".heads button", 1)
        first = [None if text == "–" else float(text) for text in texts(drawn, ".group:first-of-type .reward")]
        known = sorted((reward for reward in made[1][4].rewards if reward is not None), reverse=True)
        assert first[: len(known)] == known and set(first[len(known) :]) == {None}
        choose(drawn, "order", "highest reward")
        means = [
            sum(r for r in g.rewards if r is not None) / sum(r is not None for r in g.rewards) for g in made[1][4:]
        ]
        best = max((4, 5), key=lambda index: means[index - 4])
        assert texts(drawn, ".problemname")[0] == f"row {best}"


def test_the_curve_leads_to_a_step(file: Path) -> None:
    with shown(file) as drawn:
        assert drawn.evaluate("document.querySelectorAll('#picture .dot').length") == 4
        for name, title in (("2", "Step 2"), ("eval 2", "Evaluation after step 2"), ("1", "Step 1")):
            dot = f"document.querySelector('#picture .dot[data-step={json.dumps(name)}]')"
            box = drawn.evaluate(f"{dot}.getBoundingClientRect().toJSON()")
            place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
            for kind in ("mousePressed", "mouseReleased"):
                drawn.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)
            drawn.settle()
            assert texts(drawn, "#tree h2") == [title]
        drawn.press("]")
        assert texts(drawn, "#tree h2") == ["Step 2"]
        choose(drawn, "step", "eval 2")
        assert texts(drawn, "#tree h2") == ["Evaluation after step 2"]


def test_the_same_filters_hold_for_the_view_of_tokens(file: Path) -> None:
    with shown(file) as drawn:
        choose(drawn, "verdict", "timed_out")
        drawn.press("v")
        assert drawn.evaluate("document.querySelectorAll('.unit.first').length") == 2
        assert drawn.evaluate("document.getElementById('tree').hidden")
        assert all("member" in text for text in texts(drawn, ".rowhead .origin"))


def test_search_finds_text_within_rollouts(file: Path) -> None:
    with shown(file) as drawn:
        drawn.press("/")
        drawn.call("Input.insertText", text="Say 5")
        drawn.evaluate("new Promise(done => setTimeout(done, 250))")
        assert texts(drawn, "#found") == ["4 in 4 rows"]
        drawn.evaluate("document.getElementById('matching').click()")
        drawn.settle()
        assert texts(drawn, ".problemname") == ["row 5"]


def test_what_rollouts_hold_never_becomes_part_of_the_page(
    tiny_model: Path, tmp_path: Path, made: tuple[Path, list[TrajectoryGroup]]
) -> None:
    group = made[1][0]
    one = group.trajectories[0]
    said = {"role": HOSTILE, "content": HOSTILE, "tool_calls": [{"function": {"name": HOSTILE}}]}
    told = {"said": (said,), "logs": {HOSTILE: [HOSTILE]}, "metrics": {HOSTILE: 1.0}}
    result = replace(one.transitions[0].result, verdict=Verdict.invalid(HOSTILE), **told)
    taken = replace(
        one,
        first=({"role": "user", "content": HOSTILE},),
        transitions=(replace(one.transitions[0], result=result), *one.transitions[1:]),
        failure=Failure(kind=HOSTILE, what=HOSTILE),
    )
    hostile = replace(group, problem=HOSTILE, tags=(HOSTILE,), trajectories=(taken, *group.trajectories[1:]))
    for step in (1, 2):
        record_step(tmp_path, step, [hostile])
    written = tmp_path / "page.html"
    written.write_text(page(viewed(tiny_model, tmp_path)), encoding="utf-8")
    with shown(written) as drawn:
        drawn.press("o")
        drawn.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        assert drawn.evaluate("document.title") == "rl · rollouts" and texts(drawn, "img") == []
        assert drawn.evaluate("document.querySelector('#tree').textContent").count("onerror") >= 8


@pytest.mark.parametrize("dark", [False, True])
def test_rewards_have_colours_by_day_and_by_night(file: Path, dark: bool) -> None:
    with shown(file, dark=dark) as drawn:
        colour = "getComputedStyle(one).backgroundColor"
        found = drawn.evaluate(f"[...document.querySelectorAll('.line .reward')].map(one => {colour})")
        assert len(set(found)) >= 3


def test_of_many_groups_only_those_near_the_window_are_drawn(
    tiny_model: Path, tmp_path: Path, made: tuple[Path, list[TrajectoryGroup]]
) -> None:
    groups = [replace(made[1][number % 6], index=number) for number in range(150)]
    for step in (1, 2):
        record_step(tmp_path, step, groups)
    written = tmp_path / "page.html"
    written.write_text(page(viewed(tiny_model, tmp_path, step=2)), encoding="utf-8")
    with shown(written) as drawn:
        assert left(drawn) == "600 of 600 rollouts" and len(texts(drawn, ".group")) == 150
        assert 8 <= len(texts(drawn, "button.line")) < 300
        drawn.evaluate("go(rows.at(-1), 45)")
        drawn.settle()
        assert "group 149, member 3" in drawn.evaluate("document.getElementById('token').textContent")
        assert drawn.evaluate("document.activeElement.getBoundingClientRect().top") > 0


def test_rollouts_of_several_policies_are_told_apart(
    tiny_model: Path, tmp_path: Path, made: tuple[Path, list[TrajectoryGroup]]
) -> None:
    group = made[1][0]
    turn = group.trajectories[0].transitions[0]
    older = replace(turn.action, provenance=replace(turn.action.provenance, policy_version=10))
    one = replace(
        group.trajectories[0], transitions=(replace(turn, action=older), *group.trajectories[0].transitions[1:])
    )
    record_step(tmp_path, 1, [replace(group, trajectories=(one, *group.trajectories[1:]))])
    written = tmp_path / "page.html"
    written.write_text(page(viewed(tiny_model, tmp_path)), encoding="utf-8")
    with shown(written) as drawn:
        assert texts(drawn, "#policy option") == ["all", "0", "10"]
        choose(drawn, "policy", "10")
        assert left(drawn) == "1 of 4 rollouts"


def test_a_token_that_the_tree_folds_away_is_unfolded_and_one_that_it_lacks_is_among_the_tokens(
    tiny_model: Path, tmp_path: Path, made: tuple[Path, list[TrajectoryGroup]]
) -> None:
    group = made[1][0]
    turn = group.trajectories[0].transitions[0]
    action = replace(turn.action, tokens=(72,) * 3500, logprobs=(-0.5,) * 3500)
    one = replace(group.trajectories[0], transitions=(replace(turn, action=action),))
    record_step(tmp_path, 1, [replace(group, trajectories=(one, *group.trajectories[1:]))])
    written = tmp_path / "page.html"
    written.write_text(page(viewed(tiny_model, tmp_path)), encoding="utf-8")
    with shown(written) as drawn:
        drawn.evaluate("go(rows[0], 3)")
        assert drawn.evaluate("document.activeElement.closest('details').open")
        assert "more tokens" in texts(drawn, ".answered")[0]
        drawn.evaluate("go(rows[0], 3400)")
        drawn.settle()
        assert drawn.evaluate("document.getElementById('tree').hidden")
        assert "3,401 of" in drawn.evaluate("document.getElementById('token').textContent")
