"""The page in a real browser: every token is there and coloured, nothing is asked of the network, keys and filters do
what they say, and 20,000 tokens scroll."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chromium import Page, opened
from token_views import BROKEN, chat, inspection, sampled, spread, view

from crucible.runtime.token_page import page
from crucible.runtime.token_rows import ViewRow

pytestmark = [pytest.mark.npm, pytest.mark.slow]

LONG = [chat(f"what is number {n}?\nSay it.", f"It is {n}. " * 12, row=n, step=1 + n // 40) for n in range(120)]
HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


@contextmanager
def drawn(folder: Path, *rows: ViewRow, **options: Any) -> Iterator[Page]:
    file = folder / "page.html"
    file.write_text(page(inspection(*rows, notes=options.pop("notes", ()))), encoding="utf-8")
    with opened(file, **options) as shown:
        yield shown
        assert shown.complaints == [] and shown.requests == [file.as_uri()], "it is quiet and asks for nothing"


def tokens(shown: Page, selector: str = ".t") -> int:
    return shown.evaluate(f"document.querySelectorAll({selector!r}).length")


def colour(shown: Page, selector: str) -> str:
    return shown.evaluate(f"getComputedStyle(document.querySelector({selector!r})).backgroundColor")


def focused(shown: Page) -> str:
    return shown.evaluate("document.activeElement.textContent")


def test_every_token_is_drawn_once_with_its_text(tmp_path: Path) -> None:
    row = chat("Wie heißt 日本?", "so\t\U0001f600")
    with drawn(tmp_path, row) as shown:
        assert tokens(shown) == len(row.ids) and tokens(shown, ".t.on") == len(row.trained)
        text = shown.evaluate("[...document.querySelectorAll('.t')].map(t => t.textContent).join('')")
        assert re.sub("[⏎⇥◦]", "", text) == "".join(read.text for read in row.texts)


@pytest.mark.parametrize("dark", [False, True])
def test_each_range_of_logprobs_has_a_colour_of_its_own(tmp_path: Path, dark: bool) -> None:
    with drawn(tmp_path, sampled(chat("?", "abcdefghij")), dark=dark) as shown:
        colours = {colour(shown, f".t.b{bucket}") for bucket in range(7)}
        assert len(colours) == 7 and "rgba(0, 0, 0, 0)" not in colours
        assert colour(shown, ".t:not(.on)") == "rgba(0, 0, 0, 0)"
        ground = shown.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground))) < 200) is dark


def test_the_colours_can_show_weights_advantages_and_gaps(tmp_path: Path) -> None:
    with drawn(tmp_path, sampled(chat("?", "abcdefghij"))) as shown:
        seen: dict[str, list[str]] = {}
        for key, name in enumerate(("weight", "logprob", "advantage", "gap"), start=1):
            shown.press(str(key))
            assert shown.evaluate("document.querySelector('#colour :checked').id") == f"by-{name}"
            seen[name] = shown.evaluate("[...document.querySelectorAll('.t.on')].map(t => t.className)")
        assert len({tuple(classes) for classes in seen.values()}) == 4


def test_a_token_tells_all_that_is_known_of_it(tmp_path: Path) -> None:
    with drawn(tmp_path, sampled(chat("?", "abcdefghij"))) as shown:
        shown.evaluate("document.querySelectorAll('.t.on')[3].focus()")
        told = shown.evaluate("document.getElementById('token').textContent")
        for part in ('"d"', "loss weight1", "−1.5000", "22.3 %", "advantage−1.0000", "−1.2000", "−0.3000", "version7"):
            assert part in told


def test_pointing_at_a_token_tells_of_it(tmp_path: Path) -> None:
    with drawn(tmp_path, chat("?", "abc")) as shown:
        box = shown.evaluate("document.querySelector('.t.on').getBoundingClientRect().toJSON()")
        shown.call("Input.dispatchMouseEvent", type="mouseMoved", x=box["x"] + 2, y=box["y"] + 5)
        assert '"a"' in shown.evaluate("document.getElementById('token').textContent")


def test_next_worst_goes_from_the_least_likely_token_up(tmp_path: Path) -> None:
    rows = [sampled(one) for one in LONG]
    with drawn(tmp_path, *rows) as shown:
        seen = []
        for _ in range(4):
            shown.press("w")
            seen.append(shown.evaluate("document.querySelector('#token dd:nth-of-type(4)').textContent"))
        assert seen == ["−9.0000"] * 4 and shown.evaluate("document.getElementById('rank').textContent")[0] == "4"
        assert shown.evaluate("document.activeElement.getBoundingClientRect().top") > 0
        shown.press("W")
        assert shown.evaluate("document.getElementById('rank').textContent").startswith("3 of")


def test_a_logprob_that_is_no_number_is_the_worst(tmp_path: Path) -> None:
    row = view("abcd", trained="bcd")
    with drawn(tmp_path, view("abcd", trained="bcd", logprobs=spread(row, BROKEN))) as shown:
        shown.press("w")
        assert focused(shown) == "b" and "NaN" in shown.evaluate("document.getElementById('token').textContent")


def test_arrows_walk_over_tokens_and_rows(tmp_path: Path) -> None:
    with drawn(tmp_path, view("ab"), view("cd", row=1)) as shown:
        walked = []
        for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "j", "k"):
            shown.press(key)
            walked.append(focused(shown))
        assert walked == ["a", "b", "c", "b", "c", "a"]


def search(shown: Page, text: str) -> str:
    shown.press("/")
    shown.call("Input.insertText", text=text)
    shown.evaluate("new Promise(done => setTimeout(done, 250))")
    return shown.evaluate("document.getElementById('found').textContent")


def test_search_counts_marks_and_visits_matches(tmp_path: Path) -> None:
    with drawn(tmp_path, *LONG) as shown:
        assert search(shown, "NUMBER 11") == "11 in 11 rows"
        shown.press("Enter")
        assert shown.evaluate("document.activeElement.classList.contains('hit')")
        shown.evaluate("document.getElementById('search').focus()")
        shown.press("Enter")
        assert shown.evaluate("document.getElementById('found').textContent") == "2 of 11"
        shown.evaluate("document.getElementById('matching').click()")
        shown.settle()
        assert shown.evaluate("document.querySelectorAll('.unit.first').length") == 11
        assert tokens(shown, ".t.hit") == 11 * len("number 11")


def test_filters_by_step_and_problem_leave_those_rows(tmp_path: Path) -> None:
    troubled = chat("?", "x", row=500, step=2, problems=("max_length=60 cuts off 3 tokens",))
    with drawn(tmp_path, *LONG, troubled) as shown:
        shown.evaluate("step.value = '2'; step.dispatchEvent(new Event('change'))")
        assert shown.evaluate("document.querySelectorAll('.unit.first').length") == 41
        shown.press("p")
        assert shown.evaluate("document.querySelectorAll('.unit.first').length") == 1
        assert "cuts off" in shown.evaluate("document.querySelector('.problem').textContent")
        shown.press("Escape")
        assert shown.evaluate("document.querySelectorAll('.unit.first').length") == 121


def test_what_is_cut_off_is_struck_through_and_has_no_weight(tmp_path: Path) -> None:
    with drawn(tmp_path, chat("?", "abcdef", kept=24, logprobs=None)) as shown:
        assert tokens(shown, ".t.cut") == len(chat("?", "abcdef").ids) - 24
        line = shown.evaluate("getComputedStyle(document.querySelector('.t.cut')).textDecorationLine")
        assert line == "line-through" and tokens(shown, ".t.cut.b1") == 0


def test_text_of_rows_never_becomes_part_of_the_page(tmp_path: Path) -> None:
    row = chat(HOSTILE, HOSTILE, origin=HOSTILE, problems=(HOSTILE,))
    with drawn(tmp_path, row, notes=(HOSTILE,)) as shown:
        assert search(shown, "onerror").startswith("2 in 1")
        assert shown.evaluate("document.title") == "first · tokens" and tokens(shown, "img") == 0


def test_the_policy_refuses_a_request_even_if_one_were_made(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(page(inspection(chat("a", "b"))), encoding="utf-8")
    with opened(file) as shown:
        refused = shown.evaluate("fetch('http://127.0.0.1:9/').then(() => 'went out', error => String(error))")
        assert "TypeError" in refused and any("Content Security Policy" in said for said in shown.complaints)


def test_twenty_thousand_tokens_scroll_and_every_row_is_reached(tmp_path: Path) -> None:
    total = sum(len(row.ids) for row in LONG)
    assert total > 20_000
    with drawn(tmp_path, *LONG) as shown:
        assert tokens(shown) < total / 2, "what is far away is not drawn"
        seen = shown.evaluate(_SCROLL)
        assert seen["tokens"] == total and seen["drawn"] < total / 2
        assert seen["end"] == "row 120", "the last row is in the window at the end"


_SCROLL = """(async () => {
  const found = new Set(), frame = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  let drawn = 0;
  for (let last = -1; window.scrollY !== last;) {
    last = window.scrollY;
    const here = document.querySelectorAll(".t");
    drawn = Math.max(drawn, here.length);
    for (const token of here) found.add(`${rows.indexOf(units.get(token.closest(".unit")).row)}:${token.dataset.i}`);
    window.scrollBy(0, 600);
    await frame();
  }
  const heads = [...document.querySelectorAll(".rowhead")].filter(one => one.getBoundingClientRect().top < innerHeight);
  return { tokens: found.size, drawn, end: heads.at(-1)?.textContent.match(/row \\d+/)[0] ?? "" };
})()"""


def test_one_row_of_twenty_thousand_tokens_is_drawn_in_parts(tmp_path: Path) -> None:
    row = chat("?", "It is what it is.\n" * 1200)
    with drawn(tmp_path, row) as shown:
        assert len(row.ids) > 20_000 and tokens(shown) < 10_000
        assert shown.evaluate(_SCROLL)["tokens"] == len(row.ids)
