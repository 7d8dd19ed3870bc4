"""Two runs are compared: what differs and why, how they ended, and their curves, as text and as a page."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from run_folders import real_run

from crucible.runtime.run_compare import Comparison, compare, drawable, terminal_curves
from crucible.runtime.run_compare_page import page
from crucible.runtime.run_reading import FolderReader
from crucible.store.records import MetricLine, RunContents, RunRecord


class Tags(HTMLParser):
    """Every tag of a page with its attributes; and the text that a person reads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "path", "polyline", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "the page's tags do not nest"

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("runs")
    real_run(folder / "a")
    real_run(folder / "b", learning_rate=0.1, max_steps=8)
    found = [FolderReader(folder / name).read(running=False).contents for name in "ab"]
    return compare(*found)


def made(name: str, *values: float, config: dict[str, object] | None = None) -> RunContents:
    lines = tuple(MetricLine(line=n, step=n, values={"loss": value}) for n, value in enumerate(values))
    settings = {key: {"value": value, "origin": "default"} for key, value in (config or {}).items()}
    return RunContents(run=RunRecord(name=name, state="completed", config=settings, results={}), metrics=lines)


def test_the_keys_that_differ_are_told_with_their_values_and_origins(both: Comparison) -> None:
    told = {one.key: (one.a, one.b) for one in both.differences}
    assert told["max_steps"] == (
        {"value": 6, "origin": "the caller"},
        {"value": 8, "origin": "the caller"},
    )
    assert told["learning_rate"][0] == {"value": 2e-4, "origin": "default"}
    assert set(told) == {"max_steps", "learning_rate"} and both.equal > 10


def test_a_key_that_one_run_lacks_and_a_number_of_another_type_differ() -> None:
    found = compare(made("a", config={"x": 1, "y": 1}), made("b", config={"y": 1.0}))
    assert [(one.key, one.b and one.b["value"]) for one in found.differences] == [("x", None), ("y", 1.0)]


def test_the_outcomes_and_curves_are_the_runs_own(both: Comparison) -> None:
    outcomes = {name: (a, b) for name, a, b in both.outcomes}
    assert outcomes["step"] == (6, 8) and "eval_nll_after" in outcomes
    assert list(both.curves) == ["loss", "eval/nll"]
    assert [len(curve) for curve in both.curves["loss"]] == [6, 8]


def test_the_terminal_shows_both_curves_side_by_side_on_one_scale(both: Comparison) -> None:
    lines = terminal_curves(both, width=120).splitlines()
    assert "loss · a" in lines[0] and "loss · b" in lines[0] and max(map(len, lines)) <= 120
    assert any("eval/nll · a" in line for line in lines)


def test_curves_that_cannot_be_drawn_leave_no_picture() -> None:
    assert terminal_curves(compare(made("a", 1.0), made("b", math.nan)), width=80) == ""
    assert "No finite values" in page(compare(made("a", math.nan), made("b", math.inf)))


def test_a_flat_curve_and_a_single_value_are_drawn() -> None:
    found = compare(made("a", 1.0, 1.0), made("b", 1.0))
    assert "loss · b" in terminal_curves(found, width=80)
    assert "<circle" in page(found) and "nan" not in page(found)


def test_a_long_curve_is_thinned_to_means() -> None:
    points = [(step, float(step)) for step in range(100_000)]
    thinned = drawable(points)
    assert len(thinned) <= 1000 and thinned[0] == (0, 49.5)


def test_the_page_needs_no_other_file_and_runs_nothing(both: Comparison) -> None:
    text = page(both)
    tags = Tags(text)
    assert tags.open == [] and not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in tags.tags}
    attributes = {key for _, attrs in tags.tags for key in attrs}
    assert not {"src", "href", "srcset", "style"} & attributes and not any(key.startswith("on") for key in attributes)
    assert not re.search(r"https?:|url\(|@import", text)
    policies = [attrs["content"] for tag, attrs in tags.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert sum(tag == "svg" for tag, _ in tags.tags) == 2 and "the caller" in tags.text


def test_whatever_a_run_is_called_and_holds_is_text_on_the_page(both: Comparison) -> None:
    evil = "\"><script>alert(1)</script>'&"
    config = {evil: {"value": evil, "origin": evil}}
    one = made("a", 1.0, 2.0)
    lines = tuple(replace(line, values={evil: 1.0}) for line in one.metrics)
    other = RunContents(run=replace(one.run, name=evil, config=config, results={evil: 1}), metrics=lines)
    tags = Tags(page(compare(other, one, metrics=[evil])))
    assert "script" not in {tag for tag, _ in tags.tags} and tags.text.count(evil) >= 6


def test_a_page_of_runs_without_metrics_says_so(tmp_path: Path) -> None:
    assert "Neither run recorded a metric" in page(compare(made("a"), made("b")))
