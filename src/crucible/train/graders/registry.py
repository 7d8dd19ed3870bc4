"""Which function does a grader's name mean?"""

import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from crucible.errors import ConfigError, MissingExtraError, Problem, UserError, did_you_mean

PLUGIN_GROUP = "crucible.graders"
"""Entry points of this group add graders: the name is the grader's, the object a module-level function as
`register_grader` takes it. A built-in name cannot be taken over."""


@dataclass(frozen=True, kw_only=True)
class BuiltInGrader:
    """function: `module:function`; needs: the module of an extra, and the extra that has it, if any."""

    function: str
    needs: tuple[str, str] | None = None


GRADERS: Mapping[str, BuiltInGrader] = {
    "exact": BuiltInGrader(function="crucible.train.graders.answers:grade_exact"),
    "number": BuiltInGrader(function="crucible.train.graders.answers:grade_number"),
    "math": BuiltInGrader(function="crucible.train.graders.math:grade_math", needs=("math_verify", "math")),
    "code": BuiltInGrader(function="crucible.train.graders.code:grade_code"),
    "reasoning_gym": BuiltInGrader(
        function="crucible.train.rl.environments.reasoning_gym_tasks:grade", needs=("reasoning_gym", "environments")
    ),
}
"""The graders that come with the package, by name."""

_registered: dict[str, str] = {}


def register_grader(name: str, function: Callable[[Mapping[str, Any]], object]) -> None:
    """Let `name` mean this function, in this process.

    function: at the top level of a module that can be imported, or of the script that runs, which then needs an
    `if __name__ == "__main__":` around what it does: the graders' processes find it by its name. It takes an item
    (JSON data) and returns a score, a pair (score, detail), or a `Verdict`.

    Raises:
        ConfigError: if the name is taken, or the function cannot be found by its name.
    """
    target = _target(function)
    if name in GRADERS or _registered.get(name, target) != target:
        raise ConfigError.of("there is already a grader of that name", where="register_grader", given=name)
    _registered[name] = target


def grader_problems(name: str) -> Iterable[Problem]:
    """What `find_grader` would refuse: a name that means nothing, or a grader whose extra is not installed."""
    try:
        find_grader(name)
    except UserError as error:
        yield from error.problems


def find_grader(name: str) -> str:
    """`module:function` (or `path of a script:function`) of the grader.

    Raises:
        ConfigError: if there is no grader of that name.
        MissingExtraError: if it needs an extra that is not installed.
    """
    if name in GRADERS:
        needs = GRADERS[name].needs
        if needs is not None and importlib.util.find_spec(needs[0]) is None:
            raise MissingExtraError.for_extra(needs[1], needed_by=f"the grader {name!r}", module=needs[0])
        return GRADERS[name].function
    if name in _registered:
        return _registered[name]
    plugins = {entry.name: f"{entry.module}:{entry.attr}" for entry in entry_points(group=PLUGIN_GROUP)}
    if name in plugins:
        return plugins[name]
    known = sorted({*GRADERS, *_registered, *plugins})
    hint = did_you_mean(name, known)
    raise ConfigError.of("there is no such grader", where="grader", given=name, fix=hint)


def _target(function: Callable[[Mapping[str, Any]], object]) -> str:
    module, qualified = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    home = sys.modules.get(module or "")
    if home is None or getattr(home, qualified, None) is not function:
        raise ConfigError.of(
            "a grader must be a function at the top level of a module, so that another process finds it by its name",
            where="register_grader",
            given=f"{module}.{qualified}",
        )
    if home.__name__ != "__main__":
        return f"{module}:{qualified}"
    spec, file = home.__spec__, getattr(home, "__file__", None)
    if spec is not None:  # python -m module
        return f"{spec.name}:{qualified}"
    if file is None:
        raise ConfigError.of(
            "a grader must stand in a file: another process cannot find what was typed in here",
            where="register_grader",
            given=qualified,
        )
    return f"{Path(file).resolve()}:{qualified}"
