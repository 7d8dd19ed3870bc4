"""When does a branch run or a loop stop, as plain data?"""

from typing import Any, Literal, TypeAlias

import msgspec


class EveryCondition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="every", tag_field="condition"):
    """The count is a positive multiple of `n`; 0 is never. of: a slot; None is the loop's iteration, from 1."""

    n: int
    of: str | None = None


class CompareCondition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="compare", tag_field="condition"):
    """The slot's value, compared with a JSON value."""

    slot: str
    op: Literal["==", "!=", "<", "<=", ">", ">="]
    value: Any


class AndCondition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="and", tag_field="condition"):
    """All hold."""

    conditions: "tuple[Condition, ...]"


class OrCondition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="or", tag_field="condition"):
    """One holds."""

    conditions: "tuple[Condition, ...]"


class NotCondition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="not", tag_field="condition"):
    """The inner one does not hold."""

    inner: "Condition"


class NamedCondition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="named", tag_field="condition"):
    """A condition registered under `name`. reads: slots by parameter; options: JSON data by parameter."""

    name: str
    options: dict[str, Any] = {}
    reads: dict[str, str] = {}


Condition: TypeAlias = EveryCondition | CompareCondition | AndCondition | OrCondition | NotCondition | NamedCondition
