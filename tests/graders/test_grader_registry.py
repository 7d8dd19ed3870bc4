"""Which function does a grader's name mean, and what is said of one that means none?"""

from collections.abc import Mapping
from typing import Any

import pytest
from hostile_graders import crash, seven

from crucible.errors import ConfigError
from crucible.train.graders.registry import GRADERS, find_grader, grader_problems, register_grader


def test_every_grader_that_comes_along_can_be_used_as_installed() -> None:
    assert [list(grader_problems(name)) for name in GRADERS] == [[]] * len(GRADERS)


def test_a_registered_grader_is_found_by_its_name_and_may_be_registered_again() -> None:
    register_grader("seven", seven)
    assert find_grader("seven") == "hostile_graders:seven"


def test_a_name_that_is_taken_is_refused() -> None:
    for name in ("math", "seven"):
        with pytest.raises(ConfigError, match="already a grader of that name"):
            register_grader(name, crash)


def test_a_function_that_no_other_process_can_find_is_refused() -> None:
    def inner(item: Mapping[str, Any]) -> float:
        return 1.0

    with pytest.raises(ConfigError, match="top level of a module"):
        register_grader("inner", inner)


@pytest.mark.parametrize("name", ["mat", "hostile_graders:seven", "os:system"])
def test_a_name_that_means_nothing_and_an_import_path_are_refused(name: str) -> None:
    (problem,) = grader_problems(name)
    assert problem.what == "there is no such grader"
