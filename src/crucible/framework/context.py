"""What may a stage see and do while it runs? Its declared slots and ports, and the run's records."""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from crucible.errors import Problem, UndeclaredSlotError, WorkflowError
from crucible.framework.codec import Place
from crucible.framework.declaration import slots_of
from crucible.framework.entries import Artifact, Entry, Keep, Request, Result
from crucible.framework.run import Run
from crucible.framework.slot import READS, WRITES, Slot
from crucible.framework.state import State
from crucible.ir import json_problems
from crucible.ports import Port
from crucible.ports.metrics_store import MetricsRow
from crucible.telemetry import Bus

T = TypeVar("T")
P = TypeVar("P", bound=Port)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a stage declared: the slots it may read, may write, and must write each time it runs, by name; its
    ports."""

    reads: frozenset[str]
    writes: frozenset[str]
    owes: frozenset[str]
    ports: frozenset[type[Port]]
    checkpoints: bool

    @classmethod
    def to(cls, stage: object, *, ports: Iterable[type[Port]]) -> "Allowed":
        """What this stage, with these ports, may touch."""
        used = [(declared.access, slot.name) for _, declared, slot in slots_of(stage)]
        return cls(
            reads=frozenset(name for access, name in used if access != WRITES),
            writes=frozenset(name for access, name in used if access != READS),
            owes=frozenset(name for access, name in used if access == WRITES),
            ports=frozenset(ports),
            checkpoints=bool(getattr(stage, "checkpoints", False)),
        )


class StageContext:
    """A stage's view of the run, made anew for each time it runs.

    run: what never changes. stage: the name of the stage. path: where it stands, for messages.
    """

    __slots__ = ("_allowed", "_bus", "_ports", "_record", "_requests", "_state", "path", "run", "stage", "written")

    def __init__(
        self,
        *,
        run: Run,
        stage: str,
        path: str,
        allowed: Allowed,
        state: State,
        ports: Mapping[str, Port],
        bus: Bus,
        record: Callable[[Entry], None],
        requests: list[Request],
    ) -> None:
        self.run = run
        self.path = path
        self.written: set[str] = set()
        self.stage = stage
        self._allowed = allowed
        self._state = state
        self._ports = ports
        self._bus = bus
        self._record = record
        self._requests = requests

    def read(self, slot: Slot[T]) -> T:
        """The slot's value; of a slot that the stage only writes, what it wrote.

        Raises:
            UndeclaredSlotError: if the stage declares no `Reads` or `Updates` of it.
        """
        if slot.name not in self._allowed.reads and slot.name not in self.written:
            self._refuse("reads", slot.name, self._allowed.reads, "Reads[...] or Updates[...]")
        value: Any = self._state.get(slot.name)
        return value

    def has(self, slot: Slot[Any]) -> bool:
        """Whether a slot that the stage declares holds a value: for `rollback` and `release`."""
        return slot.name in self._allowed.reads | self._allowed.writes and self._state.has(slot.name)

    def recorded(self, path: str) -> str:
        """A path as a record keeps it: relative to the run's folder if it lies inside, so that the folder may move."""
        return Place(name="", run_dir=self.run.run_dir, ports={}).recorded(path)

    def write(self, slot: Slot[T], value: T) -> None:
        """Give the slot a new value. A whole number in a slot of `float` becomes one, as it would on its way through a
        checkpoint.

        Raises:
            UndeclaredSlotError: if the stage declares no `Writes` or `Updates` of it.
        """
        if slot.name not in self._allowed.writes:
            self._refuse("writes", slot.name, self._allowed.writes, "Writes[...] or Updates[...]")
        self._state.put(slot.name, float(value) if slot.type is float and type(value) is int else value)
        self.written.add(slot.name)

    def port(self, kind: type[P]) -> P:
        """The run's adapter for a port.

        Raises:
            WorkflowError: if the stage does not declare the port, or declares it optional and the run has none.
        """
        adapter: Any = self._ports.get(kind.port_name)  # the plan has checked that it is a `kind`
        if kind not in self._allowed.ports:
            raise WorkflowError.of(
                f"the stage uses the port {kind.port_name} without declaring it",
                where=self.path,
                fix=f"Add {kind.__name__} to the stage's ports",
            )
        if adapter is None:
            raise WorkflowError.of(
                f"this run has no {kind.port_name}", where=self.path, fix="Ask has_port() before using an optional port"
            )
        return adapter

    def has_port(self, kind: type[Port]) -> bool:
        """Whether `port(kind)` gives an adapter."""
        return kind in self._allowed.ports and kind.port_name in self._ports

    def emit(
        self, event: str, measurements: Mapping[str, float] | None = None, metadata: Mapping[str, object] | None = None
    ) -> None:
        """Emit a telemetry event; `run_id` and `stage` are added to its metadata."""
        told: dict[str, object] = {"run_id": self.run.run_id, "stage": self.stage, **(metadata or {})}
        self._bus.emit(event, measurements, told)

    def record_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers that are a function of config, data and seed (times and speeds are events).

        Raises:
            ValueError: if step is negative or there are no values.
        """
        if step < 0 or not values:
            raise ValueError(f"{self.path}: metrics need a step >= 0 and a value; got step {step} and {dict(values)}")
        self._record(MetricsRow(step=step, values=dict(values)))

    def record_result(self, name: str, value: Any) -> None:
        """Record a named outcome for the run's result; JSON data.

        Raises:
            WorkflowError: if the value is not JSON data.
        """
        self._refuse_foreign(value, name)
        self._record(Result(name, deepcopy(value)))  # as it is now, whatever becomes of it

    def record_artifact(self, name: str, path: Path | str) -> None:
        """Record a file or folder that the run made."""
        self._record(Artifact(name, path))

    def record_checkpoint(
        self,
        record: Mapping[str, Any] | None,
        *,
        publish_as: str = "",
        rolling: bool = False,
        keep: Keep | None = None,
    ) -> None:
        """Ask for a checkpoint: every durable slot as it is at the end of this iteration of the innermost loop (or
        of this node, outside of loops), from where the run can be continued.

        record: its line of `checkpoints.jsonl`, to which is added where a session was saved (`state_path`); JSON
        data; `name`, a plain file name, names it. None: it has no line, and is rolling. publish_as: also record where,
        as a result and an artifact of this name. rolling: it is deleted when the next one is there. keep: until when
        it stays, as this stage's; the line says so (None: for good).

        Raises:
            WorkflowError: if the record is not JSON data, or the stage's class does not say `checkpoints = True`.
        """
        line = deepcopy(dict(record or {}))
        self._refuse_foreign(line, "checkpoint")
        if self._allowed.checkpoints is False:
            fix = "Set checkpoints = True on its class"
            raise WorkflowError.of("the stage asks for a checkpoint without declaring that", where=self.path, fix=fix)
        if record is None:
            self._requests.append(Request(name="", record=None, rolling=True))
            return
        if keep is not None:
            line |= {"ttl_seconds": keep.ttl_seconds} if keep.ttl_seconds else {}
            line["keep"] = asdict(replace(keep, stage=self.path))
        name = line.pop("name", "")
        self._requests.append(Request(name=str(name), record=line, publish_as=publish_as, rolling=rolling))

    @classmethod
    def alone(cls, stage: Any, **facts: Any) -> "StageContext":
        """The context of a stage that runs by itself: without ports, in a process of its own."""
        return cls(stage=stage.name, allowed=Allowed.to(stage, ports=()), ports={}, **facts)

    def readable(self) -> dict[str, object]:
        """The values of the slots that the stage may read, by name."""
        return {name: self._state.get(name) for name in sorted(self._allowed.reads)}

    def take(
        self,
        written: Mapping[str, object],
        entries: Iterable[Entry],
        requests: Iterable[Request],
        events: Iterable[tuple[str, Mapping[str, float], Mapping[str, object]]],
    ) -> None:
        """Take over what the stage did elsewhere."""
        for name, value in written.items():
            self._state.put(name, value)
        self.written.update(written)
        for entry in entries:
            self._record(entry)
        self._requests.extend(requests)
        for name, measurements, metadata in events:
            self._bus.emit(name, measurements, metadata)

    def _refuse_foreign(self, value: object, name: str) -> None:
        problems = list(json_problems(value, where=f"{self.path}: {name}"))
        if problems:
            raise WorkflowError(problems)

    def _refuse(self, verb: str, slot: str, declared: frozenset[str], annotation: str) -> None:
        raise UndeclaredSlotError(
            Problem(
                what=f"the stage {verb} a slot that it does not declare",
                where=self.path,
                given=slot,
                fix=f"Declare it as {annotation}; it {verb} {', '.join(sorted(declared)) or 'no slot'}",
            )
        )
