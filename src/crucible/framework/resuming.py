"""From which point does a run go on? The latest whose every part is whole; what came after it is taken back."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crucible.errors import CheckpointError, ForeignCheckpointError, ResumeError
from crucible.framework.journal import Journal
from crucible.framework.journal_file import FILE_NAME, read_records
from crucible.framework.nodes import Workflow
from crucible.framework.point import START, Point, points_in
from crucible.framework.position import Position, cursor_to, exists
from crucible.framework.slot import Durable
from crucible.framework.snapshots import Snapshots, fingerprint_of
from crucible.framework.survival import needed


@dataclass(frozen=True, kw_only=True)
class History:
    """What a journal says of a run. points: oldest first. facts: of its latest start. experiments: the hashes of what
    it was ever started with. damage: sentences."""

    points: tuple[Point, ...] = (START,)
    experiments: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    damage: tuple[str, ...] = ()

    @property
    def last(self) -> Point:
        """The latest point."""
        return self.points[-1]


def read_history(run_dir: Path) -> History:
    """Read `journal.jsonl`; without one, or with a damaged first line, nothing had happened yet. Changes nothing."""
    records, _, problem = read_records(run_dir / FILE_NAME)
    damage = [f"{problem}; what came after it is done again"] if problem else []
    try:
        points = points_in(records)
    except (ValueError, KeyError, TypeError) as error:
        return History(damage=(f"{run_dir / FILE_NAME} is not what this version writes: {error!r}",))
    starts = [record for record in records if record["kind"] == "start"]
    return History(
        points=tuple(points),
        facts=starts[-1] if starts else {},
        experiments=tuple(start["experiment"] for start in starts if "experiment" in start),
        damage=tuple(damage),
    )


def repair(run_dir: Path) -> None:
    """Cut a journal after its last whole record, and keep what was cut beside it."""
    path = run_dir / FILE_NAME
    _, good, problem = read_records(path)
    data = path.read_bytes() if path.exists() else b""
    if len(data) > good:
        if problem:
            path.with_suffix(".damaged").write_bytes(data[good:])
        with path.open("r+b") as file:
            file.truncate(good)


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """Where a run goes on. skipped: sentences on later points that could not be used."""

    point: Point
    skipped: tuple[str, ...]

    @property
    def position(self) -> Position:
        """Where in the workflow."""
        return self.point.position


async def restore(
    workflow: Workflow,
    history: History,
    *,
    load: Callable[[Point, Sequence[str]], Awaitable[None]],
    journal: Journal,
    snapshots: Snapshots,
) -> Resumed:
    """Load the latest point that is whole, and rewind the journal to it.

    load: puts a point's slots of these names into the run's state, all or none.

    Raises:
        ResumeError: if the workflow has no place of that name any more.
        PortError: if a backend fails for another reason than a damaged checkpoint.
    """
    skipped = list(history.damage)
    for point in reversed(history.points):
        if not exists(workflow.body, cursor_to(point.position)):
            raise ResumeError.of(
                "the workflow has changed where the run would go on",
                where=str(point.position),
                fix="Undo the change, or start a new run",
            )
        rows = journal.rows_of(point)
        if rows is None:
            skipped.append(f"the metrics of the point at {point.position} are missing or changed")
            continue
        wanted = needed(workflow, point.position).values()
        durable = [slot.name for slot in wanted if isinstance(slot.survives, Durable)]
        try:
            await load(point, [name for name in durable if name in point.slots])
        except ForeignCheckpointError as error:
            fix = "Restore the model, or start a new run"
            raise ResumeError.of(f"the model is not the one that the run began with: {error}", fix=fix) from error
        except CheckpointError as error:
            skipped.append(f"the checkpoint at {point.position} cannot be used: {error}")
            continue
        journal.rewind(point, rows)
        snapshots.restored()
        await snapshots.retain()
        return Resumed(point=point, skipped=tuple(skipped))
    raise AssertionError("the start is a point that needs nothing")


def require_same(slot: str, value: object, fingerprints: Mapping[str, str], *, path: str) -> None:
    """Raise ResumeError unless a rebuilt slot's value is known by the fingerprint that the run noted at first."""
    before, now = fingerprints.get(slot), fingerprint_of(value)
    if before and before != now:
        raise ResumeError.of(
            f"what {path} made is not what the run began with: {slot} has changed",
            given=f"{before} then, {now} now",
            fix="Restore it (a data file, most likely), or start a new run",
        )
