"""What flows between stages? Typed slots, each of which says how it survives a kill."""

import builtins
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar, cast, get_args, get_origin

T = TypeVar("T")

Access: TypeAlias = Literal["reads", "writes", "updates"]

READS: Access = "reads"
WRITES: Access = "writes"
UPDATES: Access = "updates"


@dataclass(frozen=True)
class Durable:
    """The slot's value is saved with every checkpoint, by the codec of this name."""

    codec: str


@dataclass(frozen=True)
class Rebuilt:
    """The slot's value is made again on resume, by the stage or loop of this name.

    The plan refuses it where that would give another value than the one a kill took away: if another stage changes
    the slot, or the one that makes it reads what has changed since. afresh: a new value will do (a clock, a cache);
    then others may change it.
    """

    by: str
    afresh: bool = False


Survival: TypeAlias = Durable | Rebuilt


@dataclass(frozen=True)
class Slot(Generic[T]):
    """A named place for one value.

    name: unique in a workflow; two `Slot` values with one name must be equal.
    type: the value's type; compared by its name, which is all that `experiment.json` keeps of it.
    survives: `Durable(codec)` or `Rebuilt(by=...)`. The plan refuses None.
    """

    name: str
    type: builtins.type[T] = field(compare=False)
    survives: Survival | None = None
    type_name: str = ""

    def __post_init__(self) -> None:
        if not self.type_name:
            object.__setattr__(self, "type_name", name_of_type(self.type))

    def __repr__(self) -> str:
        return f"Slot({self.name!r}, {self.type_name}, {self.survives})"


Reads: TypeAlias = Annotated[Slot[T], READS]
"""The stage needs the slot's value and leaves it as it is."""
Writes: TypeAlias = Annotated[Slot[T], WRITES]
"""The stage gives the slot a new value, each time it runs."""
Updates: TypeAlias = Annotated[Slot[T], UPDATES]
"""The stage needs the slot's value and changes it: in place (what a handle stands for) or by a new one."""


def name_of_type(kind: Any) -> str:
    """`Future[ForwardBackwardOutput]` for that type: names without their modules."""
    if kind is None or kind is type(None):
        return "None"
    if kind is Ellipsis:
        return "..."
    if isinstance(kind, list):  # the arguments of Callable[[...], ...]
        return f"[{', '.join(name_of_type(part) for part in cast('list[object]', kind))}]"
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return name_of_type(arguments[0])
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    name = getattr(origin or kind, "__name__", None) or str(kind)
    if name in ("Union", "UnionType"):
        return " | ".join(name_of_type(part) for part in arguments)
    return f"{name}[{', '.join(name_of_type(part) for part in arguments)}]" if arguments else name
