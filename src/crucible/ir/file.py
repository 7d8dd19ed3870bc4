"""How does an experiment go to JSON and come back?"""

from typing import Any, cast

import msgspec

from crucible.errors import Problem, SpecError
from crucible.ir.experiment import Experiment
from crucible.ir.structure import structure_problems
from crucible.ir.validation import validate


def to_json(experiment: Experiment) -> bytes:
    """The experiment as indented JSON: equal experiments give the same bytes.

    Raises:
        SpecError: if it is not valid, with every problem; nothing is written that `from_json` would refuse.
    """
    problems = validate(experiment)
    if problems:
        raise SpecError(problems)
    return msgspec.json.format(msgspec.json.encode(experiment, order="deterministic"), indent=2) + b"\n"


def from_json(data: bytes) -> Experiment:
    """The experiment that `data` spells.

    Raises:
        SpecError: if it is no JSON, or no valid experiment; with every problem and its path.
    """
    try:
        decoded: Any = msgspec.json.decode(data)
        problems = _alias_problems(decoded) or list(structure_problems(decoded, Experiment))
        if not problems:
            experiment = msgspec.convert(decoded, Experiment)
            problems = validate(experiment)
            if not problems:
                return experiment
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # a RecursionError: nested too deep
        raise SpecError(Problem(what=f"the experiment is not readable as JSON: {error}")) from error
    raise SpecError(problems)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what `to_json` writes."""
    return msgspec.json.schema(Experiment)


def _alias_problems(decoded: Any) -> list[Problem]:
    """Turn the input alias `stages` into `pipeline`, in place."""
    if not isinstance(decoded, dict):
        return []
    entries = cast("dict[str, Any]", decoded)
    if "stages" in entries and "pipeline" in entries:
        return [Problem(what="both 'pipeline' and its alias 'stages' are given", fix="Keep 'pipeline'")]
    if "stages" in entries:
        entries["pipeline"] = entries.pop("stages")
    return []
