"""`crucible inspect run` of an RL run shows its steps, groups and rollouts on a terminal, on a page and as JSON."""

import json
import shutil
from pathlib import Path

import pytest

import crucible
from crucible.__main__ import main
from crucible.runtime.inspecting import inspect_run
from crucible.train.rl.record import learned_group, rollouts_file, write_learned, write_rollouts
from sampled_groups import sample_groups


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str | Path) -> tuple[int, str]:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on the tiny model, whose rollouts are of that model too."""
    folder = tmp_path_factory.mktemp("runs") / "rl"
    config = {"model": str(tiny_model), "batch_size": 4, "eval_rows": 0, "max_steps": 1, "record_every": -1}
    crucible.run("sl_basic", config, manifest="test", adapters={"tokenizer_store": "hf"}, run_dir=folder)
    groups = sample_groups(tiny_model, folder / "engine", groups=4)
    for step in (1, 2):
        write_rollouts(folder, step, groups[2 * step - 2 : 2 * step])
    write_learned(folder, 2, [learned_group(3, advantages=[0.5, -0.5, None, None])])
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "rl"))


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that learned from its rollouts."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    config = {"model": str(tiny_model), "env": "letters", "group_size": 4, "groups_per_batch": 3, "max_tokens": 4}
    more = {"max_steps": 2, "eval_every": 0, "record_every": 1, "remove_constant_reward_groups": False}
    crucible.run("rl_basic", {**config, **more}, run_dir=folder)
    return folder


def test_a_real_run_shows_what_it_sampled_and_trained(said, trained: Path, tmp_path: Path) -> None:
    code, text = said("inspect", "run", trained, "--rows", "1", "--json", tmp_path / "tree.json")
    assert code == 0 and "letters/copy" in text and "Groups of step 2" in text
    told = json.loads((tmp_path / "tree.json").read_bytes())
    steps = [step for step in told["steps"] if step["purpose"] == "step"]
    assert [step["step"] for step in steps] == [1, 2] and all(len(step["groups"]) == 3 for step in steps)
    members = [one for step in steps for group in step["groups"] for one in group["members"]]
    assert all(one["advantage"] is not None and one["turns"][0]["tokens"] for one in members)


def test_sampler_and_trainer_agree_on_what_a_real_run_sampled(trained: Path) -> None:
    rows = [row for row in inspect_run(trained).rows if row.rollout is not None and row.rollout.purpose == "step"]
    pairs = [(row, place, value) for row in rows for value, place in row.trained_logprobs]
    gaps = [abs(value - ((row.sampler_logprobs or ())[place] or 0.0)) for row, place, value in pairs]
    assert len(rows) == 24 and gaps and max(gaps) < 1e-4


def test_steps_and_the_last_steps_groups_are_listed(said, folder: Path) -> None:
    code, text = said("inspect", "run", folder)
    assert code == 0 and "reward" in text and "2 failed" in text
    assert "Groups of step 2" in text and "row 3" in text and "say/odd" in text and "row 1" not in text


def test_the_lowest_rollouts_are_printed_in_full(said, folder: Path) -> None:
    code, text = said("inspect", "run", folder, "--step", "1", "--rows", "3")
    assert code == 0 and text.count("member ") == 3 and "no reward" in text
    assert "Say 0 <b>&</b> once." in text and "the game's server is gone" in text and "timed_out" in text
    assert "⟦" in text and "policy 0" in text and "\x1b" not in text


def test_the_page_holds_the_tree_and_the_json_is_it(said, folder: Path, tmp_path: Path) -> None:
    page, tree = tmp_path / "seen.html", tmp_path / "seen.json"
    code, text = said("inspect", "run", folder, "--html", page, "--json", tree)
    assert code == 0 and text.count("wrote") == 2 and '"rollouts":{' in page.read_text()
    told = json.loads(tree.read_bytes())
    assert [step["step"] for step in told["steps"]] == [1, 2] and len(told["curve"]) == 2
    assert told["steps"][1]["groups"][1]["members"][0]["advantage"] == 0.5


def test_the_same_run_gives_the_same_files(said, folder: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        said("inspect", "run", folder, "--html", tmp_path / f"{name}.html", "--json", tmp_path / f"{name}.json")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_a_step_that_is_not_recorded_is_refused_with_those_that_are(said, folder: Path) -> None:
    code, text = said("inspect", "run", folder, "--step", "7")
    assert code == 2 and "Recorded: 1, 2" in text and "Traceback" not in text


def test_a_damaged_record_is_one_sentence(said, folder: Path) -> None:
    rollouts_file(folder, 1).write_bytes(rollouts_file(folder, 1).read_bytes()[:-50])
    code, text = said("inspect", "run", folder)
    assert code == 2 and "step-00000001.jsonl:3" in text and "Traceback" not in text


def test_a_tree_of_a_run_without_rollouts_is_refused(said, folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "rollouts")
    code, text = said("inspect", "run", folder, "--json", tmp_path / "tree.json")
    assert code == 2 and "no rollouts" in text and not (tmp_path / "tree.json").exists()


def test_what_rollouts_say_cannot_command_the_terminal(said, folder: Path, tiny_model: Path) -> None:
    lines = rollouts_file(folder, 2).read_bytes()
    spoilt = lines.replace(b'"problem":"row 2"', b'"problem":"\\u001b[2J\\u202e"')
    rollouts_file(folder, 2).write_bytes(spoilt.replace(b"server is gone", b"server\\u0007\\u001b[31m"))
    code, text = said("inspect", "run", folder, "--rows", "8")
    assert code == 0 and r"\x1b[2J\u202e" in text and r"server\x07\x1b[31m" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
