"""Which durable slots have changed since they were last saved, and when are they written down?"""

import math
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crucible.errors import ConfigError
from crucible.framework.codec import Codec, Place, codec_named
from crucible.framework.entries import Artifact, Checkpoint, Request, Result
from crucible.framework.file_names import plain, under
from crucible.framework.journal import Journal
from crucible.framework.journal_file import FILE_NAME, read_records
from crucible.framework.point import Saved, points_in
from crucible.framework.position import Position
from crucible.framework.retention import Held, doomed, held_in
from crucible.framework.run import Run
from crucible.framework.slot import Durable, Slot
from crucible.framework.state import State
from crucible.ports import Port
from crucible.telemetry import Bus


@dataclass(frozen=True)
class Begun:
    """A checkpoint whose slots are being saved. name: what they are saved under. ended: what it does not hold."""

    requests: tuple[Request, ...]
    name: str
    saving: Mapping[str, tuple[str, Awaitable[Any]]]
    ended: frozenset[str]

    @property
    def rolling(self) -> bool:
        """Whether nobody needs it once there is a later one."""
        return all(request.rolling for request in self.requests)


class Snapshots:
    """Saves the durable slots that have changed, and commits points to the journal."""

    def __init__(
        self, slots: Mapping[str, Slot[Any]], *, run: Run, ports: Mapping[str, Port], journal: Journal, bus: Bus
    ) -> None:
        self._slots, self._run, self._ports, self._journal, self._bus = slots, run, ports, journal, bus
        self._codecs = {name: _codec(slot) for name, slot in slots.items()}
        self._costly = frozenset(name for name, codec in self._codecs.items() if not codec.cheap)
        self._changed: set[str] = set()
        self._ended: set[str] = set()
        self._fingerprints: dict[str, str] = {}
        self._taken: set[str] = set()
        self._held: list[Held] = []

    def changed(self, names: Iterable[str]) -> None:
        """Note that these durable slots may hold something else now."""
        changed = set(names)
        self._changed |= changed
        self._ended -= changed

    def ended(self, names: Iterable[str]) -> None:
        """Note that what these slots hold is closed: no checkpoint can hold it from now on, and no run needs it."""
        self._ended.update(names)
        self._changed -= self._ended

    def rebuilt(self, slot: str, value: object) -> None:
        """Note what a rebuilt slot's value is known by, if it can say so."""
        fingerprint = fingerprint_of(value)
        if fingerprint and self._journal.last.fingerprints.get(slot) != fingerprint:
            self._fingerprints[slot] = fingerprint

    def restored(self) -> None:
        """Note what the run was continued from: the journal, rewound, says all of it."""
        self._changed.clear()
        self._ended = set(self._costly - self._journal.last.slots.keys())  # or not yet opened
        self._taken.clear()
        for record in self._journal.checkpoints:
            self._untaken(str(record.get("name", "")))
        run_dir = self._run.run_dir
        self._held = held_in(points_in(read_records(run_dir / FILE_NAME)[0]), self._costly) if run_dir else []

    def place(self, name: str) -> Place:
        """Where a checkpoint of this name goes."""
        return Place(name=name, run_dir=self._run.run_dir, ports=self._ports)

    def begin(
        self, requests: Iterable[Request], position: Position, state: State, *, late: frozenset[str] = frozenset()
    ) -> Begun:
        """Capture the changed slots as they are now, but for the late ones, which `finish` captures.

        A checkpoint that has a line holds all that is costly to save and not closed, changed or not: deleting another
        one cannot take anything from it.
        """
        asked = tuple(sorted(requests, key=lambda request: request.rolling))  # a name that stays comes first
        names = [self._untaken(request.name) for request in asked]  # each of them is taken from now on
        name = names[0] or _slug(position)
        due = self._changed | (self._costly if any(request.record is not None for request in asked) else set[str]())
        wanted = [slot for slot in self._slots if slot in due - late - self._ended and state.has(slot)]
        saving = {slot: self._save(slot, state, name) for slot in wanted}
        return Begun(asked, name, saving, frozenset(self._ended))

    async def finish(
        self,
        begun: Begun,
        position: Position,
        state: State,
        *,
        late: frozenset[str] = frozenset(),
        pending: Sequence[Sequence[Request]] = (),
    ) -> None:
        """Wait until all is saved, then write the checkpoint's lines and the point.

        pending: what was asked for in the enclosing loops' iterations.
        """
        saving = dict(begun.saving)
        for name in sorted(late & self._changed & self._slots.keys()):
            if state.has(name):
                saving[name] = self._save(name, state, begun.name)
        saved = {
            name: Saved(codec=self._codec_name(name), name=path, data=await data, rolling=begun.rolling)
            for name, (path, data) in saving.items()
        }
        told = self._told(saved, begun.ended)
        lines = [line for request in begun.requests if (line := self._record(request, told)) is not None]
        self._commit(position, saved, ended=begun.ended, name=begun.name, pending=pending, durable=True)
        costly = {name: now for name, now in saved.items() if name in self._costly}
        if costly:
            self._held.append(Held(slots=costly, lines=tuple(lines), ended=begun.ended))
        await self.retain()

    def boundary(self, position: Position, state: State) -> None:
        """After a node outside of loops: a point, if that costs next to nothing."""
        if not self._journal.writes or self._changed & self._costly:
            return
        saved: dict[str, Saved] = {}
        for name in [name for name in self._slots if name in self._changed and state.has(name)]:
            path, data = self._save(name, state, "")
            saved[name] = Saved(codec=self._codec_name(name), name=path, data=_at_once(data))
        self._commit(position, saved, ended=frozenset(self._ended))

    async def load(self, slots: Mapping[str, Saved], wanted: Iterable[str], state: State) -> None:
        """Put saved values into the state.

        Raises:
            CheckpointError: if one is missing or damaged.
        """
        for name in wanted:
            saved = slots[name]
            value = await self._codecs[name].load(self._slots[name], saved.data, self.place(saved.name))
            state.put(name, value)

    def _untaken(self, name: str) -> str:
        """The name, with a number if an earlier checkpoint of this run has it: what a point refers to is never
        overwritten, only what a kill has left behind the last one."""
        free, number = name, 1
        while name and free in self._taken:
            number += 1
            free = f"{name}-{number}"
        self._taken.add(free)
        return free

    def _save(self, name: str, state: State, checkpoint: str) -> tuple[str, Awaitable[Any]]:
        self._changed.discard(name)
        several = len(self._costly) > 1 and name in self._costly
        path = under(checkpoint, name) if several else checkpoint
        return path, self._codecs[name].save(self._slots[name], state.get(name), self.place(path))

    def _commit(self, position: Position, saved: Mapping[str, Saved], **how: Any) -> None:
        fingerprints, self._fingerprints = self._fingerprints, {}
        self._journal.commit(position, saved, fingerprints=fingerprints, **how)

    def _told(self, saved: Mapping[str, Saved], ended: frozenset[str]) -> dict[str, Any]:
        """What the line says of the slots: of the first, in the workflow's order, as it is; of another with its name
        behind each key (`state_path.reference`)."""
        now = {**self._journal.last.slots, **saved}
        held = [name for name in self._slots if name in self._costly and name in now and name not in ended]
        told: dict[str, Any] = {}
        for name in held:
            about = self._codecs[name].told(now[name].data)
            told |= {key if name == held[0] else f"{key}.{name}": value for key, value in about.items()}
        return told

    def _record(self, request: Request, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
        line: dict[str, Any] | None = None
        if request.record is not None:
            line = {**({"name": request.name} if request.name else {}), **request.record, **told}
            self._journal.add(Checkpoint(line))
            numbers = {key: float(value) for key, value in line.items() if type(value) in (int, float)}
            words = {key: value for key, value in line.items() if key not in numbers and key != "keep"}
            path = words.pop("state_path", "")
            about = {"run_id": self._run.run_id, **words, "path": path}
            self._bus.emit("training.checkpoint", numbers, about)
        if request.publish_as and "state_path" in told:
            path = self.place(request.name).found(told["state_path"])
            self._journal.add(Artifact(request.publish_as, path))
            self._journal.add(Result(request.publish_as, path))
        return line

    async def retain(self) -> None:
        """Discard the checkpoints that nothing keeps any more. What a kill left of this is done by the next call:
        after a resume, all that the journal knows is looked at.

        Raises:
            ConfigError: if the best are to stay by a metric that no step has.
        """
        self._require_metrics()
        going = doomed(self._held, values=self._values, age=self._age)
        self._held = [one for one in self._held if not any(one is other for other in going)]
        staying = frozenset[str]().union(*(one.names for one in self._held))
        for name, old in [pair for one in going for pair in one.slots.items()]:
            if old.name not in staying:
                await self._codecs[name].discard(old.data, self.place(old.name))

    def _require_metrics(self) -> None:
        """Stop if no step has the metric that the best checkpoints are told by: a step that has a later one's row
        behind it has all of its own."""
        rows = self._journal.metrics
        for keep, step in [(one.keep, int(one.lines[0].get("step", -1))) for one in self._held if one.lines]:
            if keep is None or not keep.best or any(keep.metric in row.values for row in rows):
                continue
            if any(row.step > step for row in rows):
                names = sorted({name for row in rows if row.step == step for name in row.values})
                what = f"the best checkpoints are to stay by a metric that step {step} does not have"
                fix = f"Give one that is recorded then: {', '.join(names) or 'there is none'}"
                raise ConfigError.of(what, where=keep.stage, given=keep.metric, fix=fix)

    def _values(self, metric: str) -> dict[int, float]:
        """A metric's values by step, the latest of each; a NaN is none."""
        rows = [(row.step, row.values[metric]) for row in self._journal.metrics if metric in row.values]
        return {step: value for step, value in rows if not math.isnan(value)}

    def _age(self, held: Held) -> float | None:
        """Seconds since it was written; None where that cannot be seen."""
        path = self.place("").found(str(held.lines[0].get("state_path", "")))
        try:
            return time.time() - Path(path).stat().st_mtime
        except (OSError, ValueError):
            return None

    def _codec_name(self, name: str) -> str:
        survives = self._slots[name].survives
        assert isinstance(survives, Durable)
        return survives.codec


def _slug(position: Position) -> str:
    """A file name that no other position of the run has."""
    frames = (f"{frame.node}-{frame.iteration}" for frame in position.frames)
    return plain("-".join(["at", *frames, position.after]).strip("-"))


def fingerprint_of(value: object) -> str:
    """What a value says it is known by (its `fingerprint()`); "" if it says nothing."""
    fingerprint = getattr(value, "fingerprint", None)
    return str(fingerprint()) if callable(fingerprint) else ""


def _codec(slot: Slot[Any]) -> Codec:
    assert isinstance(slot.survives, Durable)
    codec = codec_named(slot.survives.codec)
    assert codec is not None, "the plan refuses an unknown codec"
    return codec


def _at_once(data: Awaitable[Any]) -> Any:
    """What a cheap codec's awaitable already has."""
    waiting = data.__await__()
    try:
        next(waiting)
    except StopIteration as done:
        return done.value
    raise AssertionError("a cheap codec has its data at once")
