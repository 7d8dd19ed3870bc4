"""What does a stage declare? Its class: slots by access, and options. Its instance: which slots those are."""

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin, get_type_hints

from crucible.framework.slot import READS, UPDATES, WRITES, Access, Slot

RUNNERS_FIELDS = ("name", "timeout", "retry", "backoff", "on_error")
"""Fields that every stage has, and that are told to the runner."""


@dataclass(frozen=True, kw_only=True)
class SlotField:
    """A field that holds a slot: how the stage uses it, its value's type, and whether the field may be None."""

    access: Access
    type: Any
    optional: bool


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """A stage class's fields, by name: slots, and options with their annotated types."""

    slots: Mapping[str, SlotField]
    options: Mapping[str, Any]


@cache
def declaration(stage_class: type) -> Declaration:
    """Read a stage class's annotations.

    Raises:
        TypeError: if one cannot be resolved, or a field holds a slot but does not say how it is used.
    """
    try:
        hints = get_type_hints(stage_class, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"{stage_class.__name__}: {error}; annotations are read when the class is made: import their types"
        ) from error
    slots: dict[str, SlotField] = {}
    options: dict[str, Any] = {}
    for name, hint in hints.items():
        if name in RUNNERS_FIELDS or hint is ClassVar or get_origin(hint) is ClassVar:
            continue
        kinds, optional = _without_none(hint)
        declared = _slot_field(kinds[0], optional=optional) if len(kinds) == 1 else None
        if declared is not None:
            slots[name] = declared
        elif any(kind is Slot or get_origin(kind) is Slot for kind in kinds):
            raise TypeError(f"{stage_class.__name__}.{name}: annotate a slot as Reads[T], Writes[T] or Updates[T]")
        else:
            options[name] = hint
    return Declaration(slots=slots, options=options)


def slots_of(stage: object) -> Iterator[tuple[str, SlotField, Slot[Any]]]:
    """(field name, its declaration, the slot) for every slot that this stage was given."""
    for name, declared in declaration(type(stage)).slots.items():
        slot: object = getattr(stage, name)
        if isinstance(slot, Slot):
            yield name, declared, slot


def _without_none(hint: Any) -> tuple[list[Any], bool]:
    if get_origin(hint) not in (Union, types.UnionType):
        return [hint], False
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    return kinds, len(kinds) < len(get_args(hint))


def _slot_field(kind: Any, *, optional: bool) -> SlotField | None:
    if get_origin(kind) is not Annotated:
        return None
    inner, *marks = get_args(kind)
    if get_origin(inner) is not Slot or marks[0] not in (READS, WRITES, UPDATES):
        return None
    return SlotField(access=marks[0], type=get_args(inner)[0], optional=optional)
