"""Does our own server conform, and does the command say what it found?"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from crucible.adapters.tokenizer import HfTokenizerStore
from crucible.cli.app import run_command
from crucible.errors import ConfigError
from crucible.server.conformance import GROUPS, Scorecard, Unreachable, examine
from crucible.server.limits import Limits
from serving import TINY_MODEL, running, torch_served


@pytest.fixture(scope="module")
def url(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, limits = tmp_path_factory.mktemp("served"), Limits(hold_seconds=2)  # one poll waits in vain
    with torch_served(folder, {TINY_MODEL: tiny_model}, limits=limits) as served, running(served) as server:
        yield server.url


@pytest.fixture(scope="module")
def card(url: str) -> Scorecard:
    return examine(url, key="tml-test", patience=60, tokenizers=HfTokenizerStore(resolve_model=Path).load)


def test_our_server_passes_every_check(card: Scorecard) -> None:
    assert [(each.check, each.status, each.detail) for each in card.findings if each.status != "pass"] == []
    assert len(card.findings) == sum(map(len, GROUPS.values()))


def test_our_server_passes_to_ten_times_the_precision(url: str) -> None:
    sharp = examine(url, key="tml-test", tolerance=1e-4, patience=60, only=["training", "losses", "sampling"])
    assert [(each.check, each.detail) for each in sharp.findings if each.status != "pass"] == []


def test_every_check_says_what_it_demands_and_what_it_measured(card: Scorecard) -> None:
    assert all(each.statement.endswith(".") and each.detail for each in card.findings)


def test_the_command_prints_a_scorecard_and_exits_with_0(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["conformance", url, "--only", "metric_keys"]) == 0
    assert "1 pass, 0 fail" in capsys.readouterr().out


def test_the_command_gives_the_scorecard_as_json(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["conformance", url, "--only", "metric_keys", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["conforms"] and shown["base_model"] == TINY_MODEL and shown["findings"][0]["status"] == "pass"


def test_the_command_exits_with_2_where_nothing_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["conformance", "http://127.0.0.1:9"]) == 2
    assert "no reply" in capsys.readouterr().err


def test_the_command_exits_with_2_at_a_bad_key(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["conformance", url, "--key", "no-key"]) == 2
    assert "refuses the key" in capsys.readouterr().err


def test_a_server_of_something_else_is_no_tinker_server(url: str) -> None:
    with pytest.raises(Unreachable, match="no Tinker API"):
        examine(url + "/elsewhere", key="tml-test")


def test_an_unknown_check_is_named(url: str) -> None:
    with pytest.raises(ConfigError, match="there is no such check"):
        examine(url, key="tml-test", only=["no_such_check"])


def test_a_model_that_is_not_served_is_named(url: str) -> None:
    with pytest.raises(ConfigError, match=TINY_MODEL):
        examine(url, key="tml-test", model="another/model")
