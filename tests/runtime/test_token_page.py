"""The page is one file that asks for nothing, and what rows hold can never become a part of it."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

from token_views import BROKEN, chat, inspection, sampled, spread, view

from crucible.runtime.token_page import page

HOSTILE = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(1)> ]]> & \" ' \u2028 %SCRIPT%"


class Tags(HTMLParser):
    """The start tags of a page, as a browser would find them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_every_token_is_in_the_page_with_its_numbers() -> None:
    row = sampled(chat("2 and 2?", "four"))
    (told,) = data_of(page(inspection(row)))["rows"]
    pieces = data_of(page(inspection(row)))["pieces"]
    assert [pieces[place][0] for place in told["tokens"]] == list(row.ids)
    assert told["logprobs"] == row.logprobs and told["advantages"] == row.advantages
    assert told["sampler"] == row.sampler_logprobs and told["version"] == 7 and told["step"] == 1


def test_what_rows_hold_stays_data() -> None:
    quiet = Tags(page(inspection(chat("a", "b")))).found
    text = page(
        inspection(chat(HOSTILE, HOSTILE, origin=HOSTILE, problems=(HOSTILE,)), title=HOSTILE, notes=(HOSTILE,))
    )
    assert [tag for tag, _ in Tags(text).found] == [tag for tag, _ in quiet]
    assert data_of(text)["rows"][0]["origin"] == HOSTILE and text.count("<script") == 2


def test_the_policy_forbids_everything_but_the_pages_own_script_and_style() -> None:
    text = page(inspection(chat("a", "b")))
    (policy,) = [tag["content"] for name, tag in Tags(text).found if tag.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    rules = dict(rule.split(maxsplit=1) for rule in policy.split("; "))
    script, style = text.split("<script>")[1].split("</script>")[0], text.split("<style>")[1].split("</style>")[0]
    for name, part in (("script-src", script), ("style-src", style)):
        assert rules[name] == f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"


def test_the_page_names_no_other_place() -> None:
    text = page(inspection(chat("a", "b")))
    assert not re.search(r"(https?:)?//\w+\.\w+|url\(|@import|\b(fetch|XMLHttpRequest|WebSocket|import)\(", text)
    assert not any(key in tag for _, tag in Tags(text).found for key in ("src", "href", "action", "style", "onclick"))


def test_numbers_that_json_lacks_are_told_from_those_that_are_missing() -> None:
    row = view("abcd", trained="bcd")
    (told,) = data_of(page(inspection(view("abcd", trained="bcd", logprobs=spread(row, BROKEN)))))["rows"]
    assert told["logprobs"] == [None, "NaN", "-Infinity", -0.5]


def test_the_same_rows_make_the_same_page() -> None:
    assert page(inspection(sampled(chat("a", "b")))) == page(inspection(sampled(chat("a", "b"))))


def test_a_page_without_rows_is_a_page() -> None:
    assert data_of(page(inspection()))["rows"] == []
