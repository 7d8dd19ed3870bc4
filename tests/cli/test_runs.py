"""`crucible runs` lists, shows, compares and tidies the runs of a folder; wrong input is one sentence and exit 2."""

import json
import shutil
from pathlib import Path

import pytest

import crucible
from crucible.__main__ import main

CONFIG = {"limit": 40, "batch_size": 4, "eval_rows": 4, "save_every": 2, "eval_every": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `runs` with two real runs of the fakes."""
    folder = tmp_path_factory.mktemp("made")
    for name, steps in (("first", 6), ("second", 8)):
        crucible.run(
            "sl_basic",
            {**CONFIG, "max_steps": steps},
            manifest="test",
            adapters={"metrics_store": "jsonl"},
            run_dir=folder / "runs" / name,
        )
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: it has a copy of those runs."""
    shutil.copytree(made / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]):
    def run(*words: str | Path) -> tuple[int, str]:
        code = main(["runs", *(str(word) for word in words)])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_the_runs_are_a_table_the_newest_first(said, place: Path) -> None:
    code, text = said()
    head, newest, oldest = text.splitlines()
    assert code == 0 and head.split() == ["id", "state", "recipe", "step", "loss", "tokens", "time", "started"]
    assert newest.split()[:4] == ["second", "completed", "sl_basic", "8/8"] and oldest.startswith("first")


def test_the_table_is_filtered_and_cut(said, place: Path) -> None:
    assert "no such runs" in said("--state", "killed")[1] and "no such runs" in said("--recipe", "x")[1]
    assert len(said("--limit", "1")[1].splitlines()) == 2


def test_a_folder_that_changes_is_never_shown_as_it_was(said, place: Path) -> None:
    said()
    (place / "runs" / "first" / "summary.json").unlink()
    shutil.rmtree(place / "runs" / "second")
    assert "killed" in said()[1] and "second" not in said()[1]


def test_json_has_every_field(said, place: Path) -> None:
    found = json.loads(said("--json")[1])
    assert [run["name"] for run in found] == ["second", "first"]
    assert found[1]["config"]["max_steps"] == {"value": 6, "origin": "the caller"} and found[1]["started_at"] > "2026"


@pytest.mark.parametrize("reference", ["fir", "first", "runs/first", "runs/first/"])
def test_a_run_is_shown_by_the_beginning_of_its_id_or_by_its_folder(said, place: Path, reference: str) -> None:
    code, text = said("show", reference)
    assert code == 0
    for wanted in ("max_steps", "the caller", "eval_nll_after", "log_step_metrics", "step-000004", "final", "6/6"):
        assert wanted in text
    assert json.loads(said("show", reference, "--json")[1])["step"] == 6


def test_options_may_stand_before_or_after_the_subcommand(said, place: Path) -> None:
    (place / "runs").rename(place / "mine")
    assert said("--runs-dir", "mine", "show", "first")[0] == 0 == said("show", "first", "--runs-dir", "mine")[0]


def test_two_runs_are_compared_in_the_terminal_and_as_a_page(said, place: Path) -> None:
    code, text = said("compare", "first", "second", "--html", "page.html")
    assert code == 0 and "max_steps" in text and "loss · first" in text and "loss · second" in text
    assert "<svg" in (place / "page.html").read_text()
    assert "learning_rate · first" in said("compare", "first", "second", "--metric", "learning_rate")[1]


def test_gc_only_says_what_would_go_until_it_is_told_to(said, place: Path) -> None:
    weights = place / "runs" / "second" / "checkpoints" / "weights"
    before = sorted(path.name for path in weights.iterdir())
    code, text = said("gc", "--keep-best", "1")
    assert code == 0 and "would delete 7 checkpoint(s)" in text and "--apply" in text
    assert (
        sorted(path.name for path in weights.iterdir()) == before
        and not (place / "runs/second/retention.jsonl").exists()
    )
    code, text = said("gc", "--keep-best", "1", "--apply")
    assert code == 0 and "deleted" in text and [path.name for path in weights.iterdir()] == ["final"]
    assert "deleted 20" in said("show", "second")[1] and "no checkpoint may go" in said("gc", "--keep-best", "1")[1]


def test_gc_keeps_what_is_young(said, place: Path) -> None:
    assert "no checkpoint may go" in said("gc", "--ttl", "7d", "--apply")[1]


def test_reindex_counts_the_runs(said, place: Path) -> None:
    code, text = said("reindex")
    assert code == 0 and "indexed 2 run(s)" in text and (place / "runs" / "runs.db").is_file()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--state", "dead"], "a run's state is one of"),
        (["--runs-dir", "nowhere"], "no such folder of runs"),
        (["--store", "mysql://me:hunter2@host/x"], "neither SQLite nor PostgreSQL"),
        (["--store", "sqlite:////nowhere/at/all/x.db"], "cannot be used"),
        (["show", "frist"], "Did you mean first?"),
        (["show", ""], "2 runs begin like this"),
        (["show", "elsewhere/x"], "no run in runs has this id"),
        (["compare", "first", "third"], "third"),
        (["compare", "first", "second", "--html", "runs"], "cannot be written"),
        (["gc"], "Give --keep-best, --ttl, or both"),
        (["gc", "--ttl", "soon"], "is no time"),
        (["gc", "--keep-best", "-1"], "keep-best"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_2(said, place: Path, words: list[str], wanted: str) -> None:
    code, text = said(*words)
    assert code == 2 and wanted in " ".join(text.split()) and "Traceback" not in text and "hunter2" not in text


def test_help_teaches(said) -> None:
    code, text = said("--help")
    assert code == 0 and "compare" in text and "--runs-dir" in text and "truth" in text
    code, text = said("gc", "--help")
    assert code == 0 and "--keep-best 3 --ttl 7d" in text and "resume" in text
