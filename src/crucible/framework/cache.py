"""Has this pure stage been run before, on these inputs? Then its outputs and records are taken from a file.

The file's name is a hash of all that they follow from: the stage's code, its options and its inputs. So a pipeline
that is changed in the middle runs from there on, and what has changed back is still there.
"""

import hashlib
import inspect
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from crucible.errors import CheckpointError, WorkflowError
from crucible.framework.atomic import write_atomically
from crucible.framework.codec import Codec, Place, codec_named
from crucible.framework.declaration import declaration, slots_of
from crucible.framework.entries import Artifact, Entry, Result
from crucible.framework.slot import READS, WRITES, Durable, Slot
from crucible.framework.snapshots import fingerprint_of
from crucible.framework.stage import Stage
from crucible.framework.state import State
from crucible.ports.metrics_store import MetricsRow
from crucible.telemetry import Bus

_LOG = logging.getLogger("crucible")
_NOWHERE = Place(name="", run_dir=None, ports={})  # a cheap codec's data must not refer to a run's folder


class NotCachedError(Exception):
    """Why a stage cannot be looked up or kept: a sentence."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a stage made. slots: their values by name. entries: what it recorded, in order."""

    slots: Mapping[str, object]
    entries: Sequence[Entry]


class StageCache:
    """The outputs of pure stages, in files under `folder`; any number of processes may use it at once.

    What keeps a stage from being cached, or an entry from being used, is said once in a run, by the event
    `stage.uncached` and to the logger `crucible`; the stage then runs as if there were no cache.
    """

    def __init__(self, folder: Path, *, bus: Bus) -> None:
        self._folder, self._bus = folder, bus
        self._told: set[tuple[str, str]] = set()

    async def key(self, stage: Stage, state: State, told: Mapping[str, object]) -> str | None:
        """What the stage's outputs are known by; None if one of its inputs cannot be told from another."""
        try:
            return await _key(stage, state)
        except (NotCachedError, WorkflowError) as reason:
            self._tell(told, str(reason))
            return None

    async def found(self, key: str, stage: Stage, told: Mapping[str, object]) -> Kept | None:
        """What was kept under the key; None if nothing was, or it is damaged, or a file that it names is gone."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._tell(told, f"{path} cannot be read: {error}")
            return None
        try:
            entry = _opened(data)
            _require_files(entry)
            slots = {
                slot.name: await codec.load(slot, entry.slots[field], _NOWHERE) for field, slot, codec in _made(stage)
            }
        except (msgspec.MsgspecError, ValueError, KeyError, CheckpointError) as error:
            self._tell(told, f"{path} is damaged and made anew: {error}")
            return None
        except NotCachedError as reason:
            self._tell(told, f"{reason}: it is made anew")
            return None
        return Kept(slots=slots, entries=[_entry(record) for record in entry.entries])

    async def keep(
        self, key: str, stage: Stage, state: State, entries: Sequence[Entry], told: Mapping[str, object]
    ) -> None:
        """Write what the stage made. That it cannot be written fails no run."""
        try:
            slots = {
                field: await codec.save(slot, state.get(slot.name), _NOWHERE) for field, slot, codec in _made(stage)
            }
            body = msgspec.json.encode(_File(slots=slots, entries=[_record(entry) for entry in entries]))
            write_atomically(self._path(key), hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        except (NotCachedError, WorkflowError, OSError, TypeError, OverflowError) as error:
            self._tell(told, f"what the stage made is not kept: {error}")

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"

    def _tell(self, told: Mapping[str, object], reason: str) -> None:
        path = str(told["path"])
        if (path, reason) not in self._told:
            self._told.add((path, reason))
            self._bus.emit("stage.uncached", {}, {**told, "reason": reason})
            _LOG.warning("%s: %s", path, reason)


async def _key(stage: Stage, state: State) -> str:
    """A hash of code, options, the names of the slots (which may name what is recorded), and the slots' values."""
    known: dict[str, Any] = {
        "class": f"{type(stage).__module__}.{type(stage).__qualname__}",
        "code": _code(type(stage)),
        "name": stage.name,
        "options": {name: getattr(stage, name) for name in declaration(type(stage)).options},
        "slots": {field: (slot.name, slot.type_name) for field, _, slot in slots_of(stage)},
        "inputs": {
            field: await _known_by(slot, state)
            for field, declared, slot in slots_of(stage)
            if declared.access != WRITES
        },
    }
    return hashlib.sha256(msgspec.json.encode(known, order="sorted")).hexdigest()


@cache
def _code(kind: type[Stage]) -> str:
    """The version that the class declares; else that of this package, and the source of the class and its bases."""
    if kind.version:
        return kind.version
    mine = [base for base in kind.__mro__ if issubclass(base, Stage) and base is not Stage]
    try:
        sources = [inspect.getsource(base) for base in mine]
    except (OSError, TypeError) as error:
        raise NotCachedError(f"the source of {kind.__name__} is not at hand; declare its version") from error
    try:
        package = version("crucible-kitchen")
    except PackageNotFoundError:  # run from a folder of sources
        package = ""
    return hashlib.sha256("\0".join([package, *sources]).encode()).hexdigest()


async def _known_by(slot: Slot[Any], state: State) -> Any:
    """What tells this value from another."""
    value = state.get(slot.name)
    if isinstance(slot.survives, Durable):
        codec = codec_named(slot.survives.codec)
        if codec is not None and codec.cheap:
            return await codec.save(slot, value, _NOWHERE)
    elif fingerprint := fingerprint_of(value):
        return fingerprint
    what = f"what the slot {slot.name} holds cannot be told from another {slot.type_name}"
    raise NotCachedError(
        f"{what}, so the stage is not cached: give its type a fingerprint(), or the slot a cheap codec"
    )


def _made(stage: Stage) -> list[tuple[str, Slot[Any], Codec]]:
    """The slots that the stage writes or updates, by field."""
    made: list[tuple[str, Slot[Any], Codec]] = []
    for field, declared, slot in slots_of(stage):
        if declared.access != READS:
            assert isinstance(slot.survives, Durable), "the plan refuses a pure stage that writes any other"
            codec = codec_named(slot.survives.codec)
            assert codec is not None, "the plan refuses an unknown codec"
            made.append((field, slot, codec))
    return made


class _Row(msgspec.Struct, frozen=True, tag="metrics"):
    """values: what JSON has no number for is kept as a text."""

    step: int
    values: dict[str, bool | int | float | str]


class _Result(msgspec.Struct, frozen=True, tag="result"):
    name: str
    value: Any


class _Artifact(msgspec.Struct, frozen=True, tag="artifact"):
    """path: absolute. is_path: whether the stage recorded a `Path`. size, changed: of a file, to know it again."""

    name: str
    path: str
    is_path: bool
    size: int
    changed: int


_Record = _Row | _Result | _Artifact


class _File(msgspec.Struct, frozen=True):
    """An entry's body; before it stands a line with its hash. slots: by field."""

    slots: dict[str, Any]
    entries: list[_Record]


def _opened(data: bytes) -> _File:
    digest, _, body = data.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError("its hash is another")
    return msgspec.json.decode(body, type=_File)


def _record(entry: Entry) -> _Record:
    match entry:
        case MetricsRow(step=step, values=values):
            plain = {name: value if math.isfinite(value) else repr(float(value)) for name, value in values.items()}
            return _Row(step, plain)
        case Result(name, value):
            return _Result(name, value)
        case Artifact(name, path):
            there = Path(path).absolute()
            size, changed = _looks(there)
            return _Artifact(name, str(there), isinstance(path, Path), size, changed)
        case _:
            raise NotCachedError(f"a {type(entry).__name__} cannot be recorded again")


def _entry(record: _Record) -> Entry:
    match record:
        case _Row(step, values):
            return MetricsRow(step=step, values={name: _number(value) for name, value in values.items()})
        case _Result(name, value):
            return Result(name, value)
        case _Artifact(name, path, is_path):
            return Artifact(name, Path(path) if is_path else path)


def _number(value: float | str) -> float:
    return float(value) if isinstance(value, str) else value


def _looks(path: Path) -> tuple[int, int]:
    """A file's size in bytes and when it was last written, in nanoseconds; zeros for a folder."""
    try:
        facts = path.stat()
    except OSError as error:
        raise NotCachedError(f"{path}, which the stage made, is not there") from error
    return (0, 0) if path.is_dir() else (facts.st_size, facts.st_mtime_ns)


def _require_files(entry: _File) -> None:
    for record in entry.entries:
        if isinstance(record, _Artifact) and _looks(Path(record.path)) != (record.size, record.changed):
            raise NotCachedError(f"{record.path}, which the stage made, has changed")
