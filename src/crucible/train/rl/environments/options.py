"""Are an environment's options known, of the right type and in range? Found before anything is loaded."""

from collections.abc import Iterator, Mapping
from typing import Any

from crucible.errors import Problem, did_you_mean
from crucible.train.rl.environments.environment import Option


def option_problems(options: Mapping[str, Option], given: Mapping[str, Any], *, of: str) -> Iterator[Problem]:
    """Everything that is wrong with the options given to the environment `of`."""
    for name, value in given.items():
        where = f"env_options.{name}"
        if name not in options:
            yield Problem(what=f"{of} has no such option", where=where, fix=did_you_mean(name, options))
        elif (wrong := _wrong(options[name], value)) is not None:
            yield Problem(what=wrong, where=where, given=repr(value))


def with_defaults(options: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """Every option, those that were not given with their defaults."""
    return {name: given.get(name, option.default) for name, option in options.items()}


def _wrong(option: Option, value: object) -> str | None:
    kind = type(option.default)
    if kind is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        fits = type(value) is kind
    if not fits:
        return f"is {_NAMES[kind]}"
    if option.choices and value not in option.choices:
        return f"is one of {', '.join(option.choices)}"
    if isinstance(value, int | float):
        if option.least is not None and not value >= option.least:
            return f"is at least {option.least:g}"
        if option.most is not None and not value <= option.most:
            return f"is at most {option.most:g}"
    return None


_NAMES: Mapping[type, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
