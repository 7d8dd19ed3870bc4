"""When does a branch run, or a loop stop? Conditions are data; a function is one only under a registered name."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from crucible.framework.slot import Slot

Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]
Read: TypeAlias = Callable[[Slot[Any]], Any]
"""How a condition gets at a slot's value."""

COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
assert set(COMPARE) == set(get_args(Operator))


@dataclass(frozen=True)
class Every:
    """True when the count is above 0 and a multiple of `n`; n = 0 is never.

    of: the slot that holds the count; None counts the enclosing loop's iterations, from 1.
    """

    n: int
    of: Slot[int] | None = None


@dataclass(frozen=True)
class Compare:
    """`slot op value`, for a value that is JSON data."""

    slot: Slot[Any]
    op: Operator
    value: Any


@dataclass(frozen=True, init=False)
class And:
    """True when all are; nothing is evaluated after the first that is not."""

    conditions: "tuple[Condition, ...]"

    def __init__(self, *conditions: "Condition") -> None:
        object.__setattr__(self, "conditions", conditions)


@dataclass(frozen=True, init=False)
class Or:
    """True when one is; nothing is evaluated after it."""

    conditions: "tuple[Condition, ...]"

    def __init__(self, *conditions: "Condition") -> None:
        object.__setattr__(self, "conditions", conditions)


@dataclass(frozen=True)
class Not:
    """True when the condition is not."""

    condition: "Condition"


@dataclass(frozen=True)
class Named:
    """A condition registered under a name: it is called with the values of `reads` and with `options`.

    reads: slots by parameter name. options: JSON data by parameter name.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    reads: Mapping[str, Slot[Any]] = field(default_factory=dict[str, Slot[Any]])


Condition: TypeAlias = Every | Compare | And | Or | Not | Named
CONDITIONS: tuple[type, ...] = get_args(Condition)

_F = TypeVar("_F", bound=Callable[..., bool])
_REGISTERED: dict[str, Callable[..., bool]] = {}


def register_condition(name: str) -> Callable[[_F], _F]:
    """Decorator: make a pure function of keyword arguments available as `Named(name)`.

    Raises:
        ValueError: if the name is taken by another function.
    """

    def register(function: _F) -> _F:
        if _REGISTERED.setdefault(name, function) is not function:
            raise ValueError(f"the condition {name!r} is registered already")
        return function

    return register


def registered_conditions() -> tuple[str, ...]:
    """The names that `Named` takes."""
    return tuple(sorted(_REGISTERED))


def holds(condition: Condition, *, read: Read, iteration: int) -> bool:
    """Whether it is true now. `iteration`: the enclosing loop's iteration, from 1."""
    match condition:
        case Every(n, of):
            count = iteration if of is None else read(of)
            return n > 0 and count > 0 and count % n == 0
        case Compare(slot, op, value):
            return bool(COMPARE[op](read(slot), value))
        case And(conditions):
            return all(holds(part, read=read, iteration=iteration) for part in conditions)
        case Or(conditions):
            return any(holds(part, read=read, iteration=iteration) for part in conditions)
        case Not(inner):
            return not holds(inner, read=read, iteration=iteration)
        case Named(name, options, reads):
            values = {argument: read(slot) for argument, slot in reads.items()}
            return bool(_REGISTERED[name](**values, **options))


def parts_of(condition: Condition) -> Iterator[Condition]:
    """The condition and all the conditions inside it."""
    yield condition
    inner: Sequence[Condition] = ()
    match condition:
        case And(conditions) | Or(conditions):
            inner = conditions
        case Not(single):
            inner = (single,)
        case _:
            pass
    for part in inner:
        yield from parts_of(part)


def slots_read(condition: Condition) -> Iterator[Slot[Any]]:
    """The slots whose values it looks at."""
    for part in parts_of(condition):
        match part:
            case Every(_, Slot() as slot) | Compare(Slot() as slot, _, _):
                yield slot
            case Named(_, _, reads):
                yield from reads.values()
            case _:
                pass


def phrase(condition: Condition) -> str:
    """The condition in words, for drawings and messages."""
    match condition:
        case Every(0, _):
            return "never"
        case Every(n, of):
            return f"every {n}" + (f" of {of.name}" if of else "")
        case Compare(slot, op, value):
            return f"{slot.name} {op} {value!r}"
        case And(conditions):
            return " and ".join(_inner_phrase(part) for part in conditions) or "always"
        case Or(conditions):
            return " or ".join(_inner_phrase(part) for part in conditions) or "never"
        case Not(inner):
            return f"not {_inner_phrase(inner)}"
        case Named(name, options, reads):
            given = [f"{key}={slot.name}" for key, slot in reads.items()]
            return f"{name}({', '.join([*given, *(f'{key}={value!r}' for key, value in options.items())])})"


def _inner_phrase(condition: Condition) -> str:
    return f"({phrase(condition)})" if isinstance(condition, And | Or) else phrase(condition)
