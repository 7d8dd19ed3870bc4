"""`crucible inspect` shows rows and runs on any terminal, and on a page."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import crucible
from crucible.__main__ import main
from crucible.cli.token_text import Found, largest_gaps, least_likely, marks_for, print_legend, print_row, tokens_table
from crucible.runtime.token_rows import ViewRow
from crucible.testing.fakes import FakeTokenizer
from crucible.train.token_texts import TokenReader, TokenText

QUICK: dict[str, Any] = {"batch_size": 4, "eval_rows": 4, "max_steps": 4, "record_every": 1}


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "160")

    def run(*words: str | Path) -> tuple[int, str]:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


@pytest.fixture
def shown(said, tmp_path: Path):
    def run(*rows: dict[str, Any], options: tuple[str | Path, ...] = ()) -> tuple[int, str]:
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = ("sl_basic", f"dataset={file}", "eval_rows=0", "--manifest", "test", "-a", "dataset_store=local")
        return said("inspect", "data", *words, *options)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    crucible.run("sl_basic", QUICK, manifest="test", run_dir=tmp_path / "first")
    return tmp_path / "first"


def row(**more: Any) -> ViewRow:
    ids = FakeTokenizer().encode("ab\tcd\n").ids
    texts = TokenReader(FakeTokenizer()).read(ids)
    return ViewRow(origin="a:1", ids=ids, texts=texts, weights=[0, 1, 1, 0, 1, 0], kept=4, **more)


def printed(*rows: ViewRow, **options: Any) -> str:
    out = io.TextIOWrapper(io.BytesIO(), encoding=options.pop("encoding", "utf-8"), newline="")
    console = Console(file=out, width=80, **options)
    print_legend(console)
    for one in rows:
        print_row(one, console)
    out.flush()
    return out.buffer.getvalue().decode(out.encoding)


def test_rows_are_printed_with_brackets_round_what_is_trained(shown) -> None:
    code, text = shown({"question": "2 and 2?", "answer": "It is\n4"})
    assert code == 0 and "⟦It is⏎\n4«<|im_end|>»⟧⏎" in text and "rows.jsonl:1" in text and "trained (" in text
    assert "renderer" in text and "\x1b" not in text


def test_a_special_token_is_told_from_text_that_looks_like_one() -> None:
    fake = ViewRow(
        origin="", ids=[1, 2], texts=[TokenText("<s>"), TokenText("<s>", special=True)], weights=[0, 0], kept=2
    )
    assert "<s>«<s>»" in printed(fake) and "\x1b[7;39m<s>" in printed(
        fake, force_terminal=True, color_system="standard"
    )


def test_rows_that_are_not_trained_on_say_why(shown) -> None:
    code, text = shown({"question": "?", "answer": "4"}, {"question": "?", "answer": None})
    assert code == 0 and "! " in text and "answer" in text.split("! ")[1]


def test_as_many_rows_are_shown_as_were_asked_for(shown) -> None:
    rows = [{"question": f"q{number}", "answer": "4"} for number in range(9)]
    code, text = shown(*rows, options=("--rows", "2", "--from", "4"))
    assert code == 0 and [f"q{number}" for number in range(9) if f"q{number}«" in text] == ["q3", "q4"]


def test_what_a_row_says_cannot_command_the_terminal(shown) -> None:
    code, text = shown({"question": "\x1b[2J\u202e\x07", "answer": "\x9b31m"})
    assert code == 0 and r"\x1b[2J\u202e\x07" in text and r"\x9b31m" in text
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(text)


def test_the_page_is_written_beside_the_text(shown, tmp_path: Path) -> None:
    code, text = shown({"question": "?", "answer": "4"}, options=("--html", tmp_path / "seen" / "rows.html"))
    assert code == 0 and "wrote" in text and "<!DOCTYPE html>" in (tmp_path / "seen" / "rows.html").read_text()


def test_a_page_that_cannot_be_written_is_one_sentence(shown, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, text = shown({"question": "?", "answer": "4"}, options=("--html", tmp_path / "file" / "rows.html"))
    assert code == 2 and "cannot be written" in text and "Traceback" not in text


def test_colours_replace_the_brackets_where_there_are_colours() -> None:
    text = printed(row(), force_terminal=True, color_system="standard")
    assert "\x1b[1;32m" in text and "⟦" not in text


def test_without_colours_every_kind_of_token_has_its_mark() -> None:
    assert "a⟦b⇥⟧c⟪d⏎\n⟫" in printed(row())
    bold = printed(row(), force_terminal=True, no_color=True)
    assert "a⟦b⇥⟧c⟪d⏎\n⟫" in re.sub(r"\x1b\[\d*m", "", bold)


def test_a_terminal_of_plain_letters_gets_plain_letters() -> None:
    assert "a[[b\\t]]c{{d\\n\n}}" in printed(row(), encoding="ascii")


def test_the_worst_tokens_come_first_and_within_their_text() -> None:
    told = row(logprobs=[None, -0.5, -2.0, None, -9.0, None], sampler_logprobs=[None, -0.6, -2.0, None, None, None])
    assert [one.place for one in least_likely([told], 5)] == [2, 1], "what is cut off was not trained"
    assert [one.place for one in largest_gaps([told], 1)] == [1]
    out = Console(file=io.StringIO(), width=100)
    out.print(tokens_table([Found(-0.5, told, 1)], out, head="logprob"))
    assert f"a⟦b⟧{marks_for(out).tab}" in out.file.getvalue()


def test_a_run_is_summed_up_by_step_with_its_least_likely_tokens(said, folder: Path) -> None:
    code, text = said("inspect", "run", folder, "--worst", "3")
    assert code == 0 and "mean NLL" in text and "Least likely trained tokens" in text
    assert "a fake" in text and text.count("⟧") == 3


def test_a_runs_page_holds_every_recorded_row(said, folder: Path) -> None:
    code, _ = said("inspect", "run", folder, "--html", folder / "seen.html", "--worst", "0", "--rows", "1")
    assert code == 0 and (folder / "seen.html").read_text().count('"origin":') == 16


def test_a_page_of_one_step_holds_that_step(said, folder: Path) -> None:
    code, _ = said("inspect", "run", folder, "--step", "2", "--html", folder / "seen.html")
    assert code == 0 and (folder / "seen.html").read_text().count('"origin":') == 4


def test_a_step_that_is_not_recorded_is_refused_with_those_that_are(said, folder: Path) -> None:
    code, text = said("inspect", "run", folder, "--step", "9")
    assert code == 2 and "Recorded: 1, 2, 3, 4" in text


def test_a_run_without_records_says_so_and_shows_its_rows(said, folder: Path) -> None:
    for file in (folder / "tokens").iterdir():
        file.unlink()
    code, text = said("inspect", "run", folder, "--rows", "1")
    assert code == 0 and "without logprobs" in text and "⟦" in text and "Least likely" not in text


def test_a_folder_that_is_no_run_is_refused(said, tmp_path: Path) -> None:
    code, text = said("inspect", "run", tmp_path)
    assert code == 2 and "no run folder" in text and "Traceback" not in text
