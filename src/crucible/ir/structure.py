"""Has this plain data the shape of that struct? Every deviation, where msgspec stops at the first."""

import types
from collections.abc import Iterator, Sequence
from typing import Any, Union, cast, get_args, get_origin

import msgspec

from crucible.errors import Problem, did_you_mean


def structure_problems(data: object, struct: type[msgspec.Struct]) -> Iterator[Problem]:
    """Every place where `data`, as decoded from JSON, would not convert to `struct`."""
    yield from _struct_problems(data, struct, "")


def _problems(data: Any, hint: Any, where: str) -> Iterator[Problem]:
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    structs = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    if structs and not (data is None and type(None) in kinds):
        yield from _tagged_problems(data, structs, where)
    elif get_origin(hint) is tuple and isinstance(data, list | tuple):
        for index, item in enumerate(cast("Sequence[Any]", data)):
            yield from _problems(item, get_args(hint)[0], f"{where}[{index}]")
    elif get_origin(hint) is dict and isinstance(data, dict):
        for key, value in cast("dict[str, Any]", data).items():
            yield from _problems(value, get_args(hint)[1], f"{where}.{key}")
    else:
        try:
            msgspec.convert(data, hint)
        except msgspec.ValidationError as error:
            yield Problem(what=str(error), where=where, given=_shown(data))


def _tagged_problems(data: Any, structs: Sequence[type[msgspec.Struct]], where: str) -> Iterator[Problem]:
    """One of several structs: which one, its tag says."""
    if len(structs) == 1 or not isinstance(data, dict):
        yield from _struct_problems(data, structs[0], where)
        return
    tags = {struct.__struct_config__.tag: struct for struct in structs}
    field = str(structs[0].__struct_config__.tag_field)
    entries = cast("dict[str, Any]", data)
    given = entries.get(field)
    if isinstance(given, str) and given in tags:
        yield from _struct_problems(entries, tags[given], where)
    else:
        names = [str(tag) for tag in tags]
        hint = did_you_mean(given, names) if isinstance(given, str) else f"known: {', '.join(sorted(names))}"
        what = f"the key {field!r} is missing" if given is None else f"unknown {field}"
        yield Problem(what=what, where=where, given="" if given is None else _shown(given), fix=hint)


def _struct_problems(data: Any, struct: type[msgspec.Struct], where: str) -> Iterator[Problem]:
    if not isinstance(data, dict):
        yield Problem(what="expected an object", where=where, given=_shown(data))
        return
    entries = cast("dict[str, Any]", data)
    known = {field.name: field for field in msgspec.structs.fields(struct)}
    for key in entries:
        if key not in known and key != struct.__struct_config__.tag_field:
            yield Problem(what="unknown key", where=where, given=key, fix=did_you_mean(key, known))
    for name, field in known.items():
        if name in entries:
            yield from _problems(entries[name], field.type, f"{where}.{name}" if where else name)
        elif field.required:
            yield Problem(what=f"the key {name!r} is missing", where=where)


def _shown(data: object) -> str:
    text = repr(data)
    return text if len(text) <= 80 else f"{text[:77]}..."
