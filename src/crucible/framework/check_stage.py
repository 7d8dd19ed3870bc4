"""What is wrong with one stage, seen alone? Its slots' types, its options, and its own checks."""

import inspect
import math
import types
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Union, cast, get_args, get_origin

import msgspec

from crucible.errors import Problem
from crucible.framework.codec import codec_named
from crucible.framework.declaration import SlotField, declaration, slots_of
from crucible.framework.slot import READS, WRITES, Durable, Slot, name_of_type
from crucible.framework.stage import Stage
from crucible.ir import json_problems


def stage_problems(stage: Stage, path: str) -> Iterator[Problem]:
    """Every problem that this stage has without regard to its neighbours."""
    declared = declaration(type(stage))
    yield from _runners_problems(stage, path)
    if stage.pure:
        yield from _pure_problems(stage, path)
    for name, field in declared.slots.items():
        slot: Any = getattr(stage, name)
        if isinstance(slot, Slot):
            yield from _type_problems(cast("Slot[Any]", slot), field, f"{path}.{name}")
        elif not (slot is None and field.optional):
            yield foreign(slot, f"{path}.{name}", wanted="a Slot")
    option_problems = [
        problem
        for name, hint in declared.options.items()
        for problem in _option_problems(getattr(stage, name), hint, f"{path}.{name}")
    ]
    yield from option_problems
    if not option_problems:  # a stage's own checks may count on options of the right type
        for problem in stage.check():
            yield replace(problem, where=f"{path}.{problem.where}" if problem.where else path)


def _runners_problems(stage: Stage, path: str) -> Iterator[Problem]:
    """What the stage tells the runner."""
    if stage.timeout is not None and not (_is_number(stage.timeout) and stage.timeout > 0):
        what = "a timeout is a number of seconds above 0"
        yield Problem(what=what, where=f"{path}.timeout", given=repr(stage.timeout))
    elif stage.timeout is not None and stage.runs_in == "thread":
        fix = "Run it in a process, or leave the timeout out"
        yield Problem(what="a stage in a thread takes no timeout: a thread cannot be killed", where=path, fix=fix)
    if type(stage.retry) is not int or stage.retry < 0:
        what = "retry is a number of further attempts from 0"
        yield Problem(what=what, where=f"{path}.retry", given=repr(stage.retry))
    if not (_is_number(stage.backoff) and stage.backoff >= 0):
        what = "backoff is a number of seconds from 0"
        yield Problem(what=what, where=f"{path}.backoff", given=repr(stage.backoff))
    if stage.on_error not in ("halt", "skip"):
        yield Problem(what="on_error is halt or skip", where=f"{path}.on_error", given=repr(stage.on_error))
    if stage.runs_in == "process" and (stage.ports or stage.optional_ports):
        fix = "Leave its ports to another stage, or run it in the loop or a thread"
        yield Problem(what="a stage in a process of its own has no ports", where=path, fix=fix)


def _pure_problems(stage: Stage, path: str) -> Iterator[Problem]:
    """What a pure stage's outputs could not be kept for, or would depend on beside its inputs."""
    if stage.ports or stage.optional_ports:
        fix = "Leave its ports to another stage, or do not call it pure"
        yield Problem(
            what="a pure stage has no ports: what comes from one is no function of its inputs", where=path, fix=fix
        )
    if stage.checkpoints:
        yield Problem(what="a pure stage asks for no checkpoint", where=path, fix="Leave that to another stage")
    for name, field, slot in slots_of(stage):
        codec = codec_named(slot.survives.codec) if isinstance(slot.survives, Durable) else None
        if field.access != READS and (codec is None or not codec.cheap):
            what, fix = (
                "a pure stage writes only slots that a cheap codec saves",
                'Make it Durable, by "json" for example',
            )
            yield Problem(what=what, where=f"{path}.{name}", given=repr(slot), fix=fix)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(cast("float", value))


def foreign(value: object, where: str, *, wanted: str, fix: str = "") -> Problem:
    """The problem that `value` stands where something else belongs."""
    what = f"expected {wanted}"
    if inspect.isroutine(value):
        what += "; a function is not data, so the run could not start from its file alone"
    return Problem(what=what, where=where, given=repr(value)[:80], fix=fix)


def _option_problems(value: object, hint: Any, where: str) -> Iterator[Problem]:
    not_json = list(json_problems(value, where=where))
    if not_json:
        yield from not_json
        return
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        yield Problem(what=str(error), where=where, given=repr(value))


def _type_problems(slot: Slot[Any], field: SlotField, where: str) -> Iterator[Problem]:
    """Compares classes only; type arguments are pyright's to compare."""
    reads_fit = field.access == WRITES or _fits(slot.type, field.type)
    writes_fit = field.access == READS or _fits(field.type, slot.type)
    if not (reads_fit and writes_fit):
        yield Problem(
            what=f"the stage {field.access} a {name_of_type(field.type)}",
            where=where,
            given=f"slot {slot.name} of {slot.type_name}",
            fix="Give a slot of that type",
        )


def _fits(given: Any, wanted: Any) -> bool:
    """False only if a value of the one type cannot be of the other."""
    givens, wanteds = _members(given), _members(wanted)
    if len(givens) > 1 or len(wanteds) > 1:
        return any(_fits(one, other) for one in givens for other in wanteds)
    given_class, wanted_class = (get_origin(kind) or kind for kind in (given, wanted))
    if not (inspect.isclass(given_class) and inspect.isclass(wanted_class)):
        return True  # a type variable, Any, a literal
    if object in (given_class, wanted_class) or (given_class, wanted_class) == (int, float):
        return True
    try:
        return issubclass(given_class, wanted_class)
    except TypeError:  # a protocol that cannot be asked at run time
        return True


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
