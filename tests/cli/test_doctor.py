"""`crucible doctor` says what it found, and its exit code says whether a run would go wrong."""

import json
from pathlib import Path

import pytest

import crucible
from crucible.__main__ import main
from crucible.errors import UnsupportedError
from crucible.runtime.examining import doctor

OPTIONS = ["-o", "torch.threads=1"]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str | Path) -> tuple[int, str]:
        code = main(["doctor", "sl_basic", *(str(word) for word in words)])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_a_model_and_its_data_are_examined_on_the_real_backend(said, tiny_model: Path, rows: Path) -> None:
    code, text = said(f"model={tiny_model}", f"dataset={rows}", "eval_rows=4", "learning_rate=1e-2", *OPTIONS)
    assert code == 0 and "0 failed" not in text and "warn " not in text
    for name in ("trained", "end_of_turn", "template", "batching", "accumulation", "loss"):
        assert any(line.split()[:2] == ["pass", name] for line in text.splitlines()), name


def test_a_failed_check_exits_with_2_and_says_what_to_do(said, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "1+1?", "answer": "2"}\n' * 40)
    code, text = said(f"dataset={rows}", "-m", "test", "-a", "dataset_store=local", "eval_rows=0")
    assert code == 2 and "39 of 40 rows (98 %) repeat" in text and "first: " in text and "Take the copies out" in text
    assert "1 failed" in text


def test_a_run_is_stopped_before_its_first_step_unless_the_check_is_waived(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "1+1?", "answer": "2"}\n' * 40)
    words = ["sl_basic", f"dataset={rows}", "eval_rows=0", "max_steps=1", "-m", "test", "-a", "dataset_store=local"]
    assert main(["run", *words, "--run-dir", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "check duplicates" in said and "waive=duplicates" in said and "step 1" not in said
    assert main(["run", *words, "waive=duplicates", "--run-dir", str(tmp_path / "run")]) == 0
    assert main(["doctor", *words, "waive=duplicates"]) == 0
    assert "(waived)" in capsys.readouterr().out


def test_findings_come_as_json(said) -> None:
    code, text = said("-m", "test", "--json", "--only", "trained", "--only", "loss")
    found = json.loads(text)
    assert code == 0 and [(each["check"], each["status"]) for each in found] == [
        ("trained", "pass"),
        ("loss", "skipped"),
    ]


def test_a_check_that_does_not_exist_is_refused_with_a_hint(said) -> None:
    code, text = said("-m", "test", "--only", "trainde")
    assert code == 2 and "Did you mean trained?" in text and "Traceback" not in text


def test_wrong_input_is_one_sentence(said) -> None:
    code, text = said("dataset=missing.jsonl")
    assert code == 2 and "missing.jsonl" in text and "Traceback" not in text


def test_a_stream_is_examined_by_its_first_rows(said) -> None:
    code, text = said("-m", "test", "streaming=true", "max_steps=3")
    assert code == 0 and "trained" in text


def test_examining_makes_no_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert {finding.status for finding in doctor("sl_basic", {}, manifest="test")} <= {"pass", "skipped"}
    assert list(tmp_path.iterdir()) == []


async def test_it_works_where_a_loop_is_running() -> None:
    assert doctor("sl_basic", {}, manifest="test", only=["bos"])[0].check == "bos"


def test_a_workflow_that_is_not_supervised_is_refused() -> None:
    recipe = crucible.describe("sl_basic")
    assert recipe.evaluation is not None
    with pytest.raises(UnsupportedError, match=r"supervised.*ForwardBackward"):
        doctor(recipe.evaluation(recipe.configure().value, ""), manifest="test")
