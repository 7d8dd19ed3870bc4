"""How does a durable slot's value get into a checkpoint, and out again? By a codec, registered under a name."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Generator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import msgspec

from crucible.errors import CheckpointError, WorkflowError
from crucible.framework.slot import Slot
from crucible.ports import Port


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a value is saved to or loaded from.

    name: the checkpoint's, a plain file name; saving under it again replaces what was saved before.
    run_dir: the run's folder; None where the run writes nothing. ports: the run's adapters by name.
    """

    name: str
    run_dir: Path | None
    ports: Mapping[str, Port]

    def recorded(self, path: str) -> str:
        """A path as a record keeps it: relative to the run's folder if it lies inside, so that the folder may move."""
        if self.run_dir is None or "://" in path:
            return path
        folder, there = self.run_dir.absolute(), Path(path).absolute()
        return str(there.relative_to(folder)) if there.is_relative_to(folder) else path

    def found(self, recorded: str) -> str:
        """A recorded path as it is now."""
        here = self.run_dir.absolute() / recorded if self.run_dir is not None and recorded else None
        return str(here) if here is not None and here.exists() else recorded


class Codec(ABC):
    """How one kind of value is saved.

    cheap: saving costs next to nothing, so that it may be done after any stage (else only where a stage or the
    checkpoint policy asks for it).
    """

    cheap: ClassVar[bool] = True

    @abstractmethod
    def save(self, slot: Slot[Any], value: Any, place: Place) -> Awaitable[Any]:
        """JSON data from which `load` makes the value again.

        What the value is now is captured before this returns; what is returned is awaited later, when the value
        may have moved on.

        Raises (at once or when awaited):
            WorkflowError: if the value is of a kind that this codec cannot save.
            PortError, OSError: if it cannot be written.
        """

    @abstractmethod
    async def load(self, slot: Slot[Any], saved: Any, place: Place) -> Any:
        """The value.

        Raises:
            CheckpointError: if what was saved is missing or damaged.
        """

    def told(self, saved: Any) -> Mapping[str, Any]:
        """What the checkpoint's line in `checkpoints.jsonl` says of this value."""
        del saved
        return {}

    async def discard(self, saved: Any, place: Place) -> None:
        """Delete what was saved; nothing refers to it any more."""
        del saved, place

    def refuses(self, slot: Slot[Any]) -> str:
        """Why a slot of this type cannot be saved; "" if it can. Looked at when the workflow is checked."""
        del slot
        return ""


class Ready:
    """An awaitable that has its value."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, None, Any]:
        return self._value
        yield  # pyright: ignore[reportUnreachable]  (what makes this a generator)


class JsonCodec(Codec):
    """Numbers, texts, lists, mappings, dataclasses and msgspec structs, by the slot's type.

    What would come back as another value is refused: NaN, a tuple in a slot of `list`, whole numbers as the keys of
    a plain `dict` (in a `dict[int, str]` they come back).
    """

    def save(self, slot: Slot[Any], value: Any, place: Place) -> Awaitable[Any]:
        del place
        try:
            value = float(value) if slot.type is float and type(value) is int else value
            data = msgspec.json.encode(value)
            if _same(value, msgspec.json.decode(data, type=slot.type)):
                return Ready(msgspec.Raw(data))
            reason = "it would come back as another value"
        except (TypeError, ValueError, OverflowError) as error:
            reason = str(error)
        what = f"the value cannot be saved as JSON: {reason}"
        fix = f"Give slot {slot.name} a codec that can, or make it Rebuilt"
        raise WorkflowError.of(what, where=f"slot {slot.name}", given=repr(value)[:80], fix=fix)

    async def load(self, slot: Slot[Any], saved: Any, place: Place) -> Any:
        del place
        try:
            return msgspec.json.decode(msgspec.json.encode(saved), type=slot.type)  # as `save` has tried it
        except msgspec.ValidationError as error:
            raise CheckpointError.of(f"the saved value is no {slot.type_name}: {error}", where=slot.name) from error

    def refuses(self, slot: Slot[Any]) -> str:
        if slot.type is object and slot.type_name != "object":
            return f"no stage here says what type {slot.type_name} is"
        try:
            msgspec.json.schema(slot.type)
        except TypeError as error:
            return str(error).splitlines()[0]
        return ""


def _same(value: object, back: object) -> bool:
    """Whether nobody could tell the two apart: in no part another type, number, or order of keys."""
    if type(value) is not type(back):
        return False
    match value:
        case dict():
            one, other = cast("dict[object, object]", value), cast("dict[object, object]", back)
            keys = _same(list(one), list(other))
            return keys and all(_same(one[key], other[key]) for key in one)
        case list() | tuple():
            many, others = cast("list[object]", value), cast("list[object]", back)
            return len(many) == len(others) and all(map(_same, many, others))
        case set() | frozenset():
            ones, rest = cast("set[object]", value), cast("set[object]", back)
            return {(type(item), item) for item in ones} == {(type(item), item) for item in rest}
        case msgspec.Struct():
            return all(_same(getattr(value, name), getattr(back, name)) for name in value.__struct_fields__)
        case _ if is_dataclass(value):
            return all(_same(getattr(value, part.name), getattr(back, part.name)) for part in fields(value))
        case _:
            return value == back


_CODECS: dict[str, Codec] = {"json": JsonCodec()}


def register_codec(name: str, codec: Codec) -> None:
    """Make a codec known under the name that `Durable(name)` says.

    Raises:
        ValueError: if another kind of codec has the name.
    """
    if type(_CODECS.setdefault(name, codec)) is not type(codec):
        raise ValueError(f"the codec name {name!r} is taken by {type(_CODECS[name]).__name__}")


def codec_named(name: str) -> Codec | None:
    """The codec of that name; None if there is none."""
    return _CODECS.get(name)


def registered_codecs() -> tuple[str, ...]:
    """The names of all codecs."""
    return tuple(_CODECS)
