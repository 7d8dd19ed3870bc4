"""Does a name give the environment that is meant, and does a wrong one say what to write?"""

from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest
from asking import names, request

from crucible.errors import ConfigError, MissingExtraError
from crucible.train.graders.registry import grader_problems
from crucible.train.rl.environments import registry
from crucible.train.rl.environments.environment import Environment, EnvironmentRequest
from crucible.train.rl.environments.registry import (
    ENVIRONMENTS,
    environment_names,
    environment_options,
    environment_problems,
    find_environment,
    load_environment,
    register_environment,
)
from crucible.train.rl.types import RLDataset


def of_my_own(request: EnvironmentRequest) -> RLDataset:
    """What a user's program might register."""
    return load_environment("letters:copy", replace(request, options={}))


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})


@pytest.mark.parametrize("name", list(ENVIRONMENTS))
def test_every_environment_says_what_it_is_in_a_line_and_names_graders_that_exist(name: str) -> None:
    environment = ENVIRONMENTS[name]
    assert environment.name == name
    assert environment.description and "\n" not in environment.description
    assert [list(grader_problems(grader)) for grader in environment.graders] == [[] for _ in environment.graders]


def test_a_name_without_a_variant_means_the_first() -> None:
    environment, variant = find_environment("arithmetic")
    assert (environment.name, variant) == ("arithmetic", "max")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("arithmetics", "Did you mean arithmetic?"),
        ("arithmetic:mx", "Did you mean max?"),
        ("gsm8k:hard", "no variants"),
        ("reasoning_gym", "Write reasoning_gym:chain_sum"),
        ("reasoning_gym:chain_sun", "Did you mean chain_sum?"),
        ("textarena:TicTacToe", "Did you mean TicTacToe-v0?"),
        ("", "no such environment"),
    ],
)
def test_a_wrong_name_says_what_to_write_and_a_plan_says_the_same(spec: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")) as raised:
        find_environment(spec)
    assert [str(problem) for problem in environment_problems(spec)] == str(raised.value).splitlines()


def test_all_that_is_wrong_with_a_request_is_said_at_once() -> None:
    asked = EnvironmentRequest(
        tokenizer=request().tokenizer, group_size=0, groups_per_batch=2, seed=0, rows=0, options={"styl": "boxed"}
    )
    with pytest.raises(ConfigError) as raised:
        load_environment("gsm8k", asked)
    assert [problem.where for problem in raised.value.problems] == [
        "env_options.styl", "group_size", "rows", "env", "env",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"digits": 3}, "at most 2"),
        ({"digits": 0}, "at least 1"),
        ({"digits": True}, "a whole number"),
        ({"digits": 1.0}, "a whole number"),
        ({"format_coef": "much"}, "a number"),
        ({"format_coef": float("nan")}, "at least 0"),
        ({"shot": 2}, "did you mean shots"),
    ],
)
def test_an_option_that_is_unknown_or_out_of_range_is_refused(options: dict[str, object], said: str) -> None:
    [problem] = environment_problems("arithmetic", options)
    assert said in str(problem).lower()


def test_an_option_with_choices_takes_no_other() -> None:
    [problem] = environment_problems("gsm8k", {"answer_style": "bold"})
    assert "boxed, hash" in str(problem)


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Environment(name="x", description="x", load=lambda _, asked: of_my_own(asked), extra="e", module="no_such")
    register_environment("mine", absent)
    with pytest.raises(MissingExtraError, match=r"pip install 'crucible-kitchen\[e\]'"):
        load_environment("mine", request())
    assert ["pip install" in str(problem) for problem in environment_problems("mine")] == [True]


def test_a_registered_function_is_found_by_its_name_and_takes_any_options() -> None:
    register_environment("mine", of_my_own)
    assert "mine" in environment_names()
    assert len(names(load_environment("mine", request(anything=1)))) == 8


def test_a_registered_environment_says_which_options_it_takes() -> None:
    register_environment("mine", ENVIRONMENTS["letters"])
    assert list(environment_options("mine:reverse")) == ["format_coef"]
    assert len(list(environment_problems("mine", {"no": 1}))) == 1


@pytest.mark.parametrize("name", ["gsm8k", "My env", "a:b"])
def test_a_name_that_is_taken_or_no_word_cannot_be_registered(name: str) -> None:
    with pytest.raises(ConfigError):
        register_environment(name, of_my_own)


def test_what_gives_no_data_set_is_refused_by_what_it_gives() -> None:
    register_environment("mine", lambda _: ["a problem"])
    with pytest.raises(ConfigError, match="but a list"):
        load_environment("mine", request())


def test_a_plug_ins_environment_is_found_and_a_broken_one_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    found = EntryPoint(name="theirs", value=f"{__name__}:of_my_own", group=registry.PLUGIN_GROUP)
    broken = EntryPoint(name="broken", value="no_such_module:x", group=registry.PLUGIN_GROUP)
    taken = EntryPoint(name="gsm8k", value="no_such_module:x", group=registry.PLUGIN_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda **_: [found, broken, taken])
    assert len(load_environment("theirs", request())) == 4
    assert find_environment("gsm8k")[0] is ENVIRONMENTS["gsm8k"]
    with pytest.raises(ConfigError, match="cannot be loaded: No module named"):
        find_environment("broken")
