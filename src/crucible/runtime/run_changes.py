"""What is different from when a run began? Its config, its adapters, the machine: each change by a key."""

import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from crucible.errors import Problem, ResumeError, did_you_mean
from crucible.ir import Experiment, to_json
from crucible.ports import TrainingClient

_PACKAGES = ("crucible-kitchen", "numpy", "tokenizers")


def environment(training: TrainingClient | None) -> dict[str, str]:
    """What a run's bytes depend on beside its experiment, by name; the backend adds its own."""
    found = {"machine": platform.machine(), "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return {**found, **(training.environment() if training is not None else {})}


def facts_of(facts: Mapping[str, Any], experiment: Experiment) -> dict[str, Any]:
    """Everything that must not change, flat: `learning_rate`, `adapter.training_client`, `environment.torch`, ..."""
    flat: dict[str, Any] = dict(experiment.config or {})
    for name, kind in (("adapter", "ports"), ("option", "options"), ("environment", "environment")):
        for key, value in cast("Mapping[str, Any]", facts.get(kind, {})).items():
            if isinstance(value, Mapping):
                flat.update({f"{name}.{key}.{inner}": v for inner, v in cast("Mapping[str, Any]", value).items()})
            else:
                flat[f"{name}.{key}"] = value
    return flat


def require_unchanged(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    *,
    stored: Experiment,
    given: Experiment,
    allowed: Iterable[str] = (),
) -> bool:
    """Refuse to continue a run as another one; returns whether anything (allowed) is different.

    before, now: as `facts_of` gives them. allowed: keys that may differ.

    Raises:
        ResumeError: naming every key that differs and is not allowed, and every allowed one that does not exist.
    """
    permitted = set(allowed)
    known = {*before, *now, "workflow"}
    problems = [
        Problem(what="is no key of this run", where="--allow-change", given=key, fix=did_you_mean(key, known))
        for key in sorted(permitted - known)
    ]
    changed = [key for key in sorted(known) if before.get(key) != now.get(key)]
    if not changed and to_json(stored) != to_json(given):
        changed = ["workflow"]  # same values, other stages: another version of the recipe
    problems += [
        Problem(
            what=f"was {_shown(before, key)} when the run began, and is {_shown(now, key)} now",
            where=key,
            fix=f"Put it back, or accept the change with --allow-change {key}",
        )
        for key in changed
        if key not in permitted
    ]
    if problems:
        raise ResumeError(problems)
    return bool(changed)


def _shown(values: Mapping[str, Any], key: str) -> str:
    if key == "workflow":
        return "other stages"
    return repr(values[key]) if key in values else "not there"
