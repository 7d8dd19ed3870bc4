"""Which checkpoints may go? Never the final one, never what a resume or another run needs, never of a running run."""

import json
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from crucible.errors import ConfigError
from crucible.framework.atomic import append_durably
from crucible.runtime.run_files import RETENTION, fingerprint
from crucible.runtime.run_lineage import below_checkpoints, here, paths_of
from crucible.runtime.run_lock import is_running, locked
from crucible.runtime.run_needed import needed_by_journal
from crucible.runtime.run_store import RunStore
from crucible.store.records import CheckpointRecord, RunContents

_FOR_RESUME = 2
"""Newest checkpoints that a run that is not complete keeps: a resume that finds the last one damaged takes the one
before it."""

_LEFTOVER = ".deleting-"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What to keep. A checkpoint goes if nothing here keeps it.

    keep_best: how many, by `metric` at the checkpoint's own step, per run. higher_is_better: of the metric. ttl:
    seconds; a checkpoint younger than this stays. expired: only those go that are older than the `checkpoint_ttl` that
    they were saved with.

    Raises:
        ConfigError: if it says nothing.
    """

    keep_best: int | None = None
    metric: str = "eval/nll"
    higher_is_better: bool = False
    ttl: float | None = None
    expired: bool = False

    def __post_init__(self) -> None:
        if self.keep_best is None and self.ttl is None and not self.expired:
            raise ConfigError.of(
                "nothing says which checkpoints may go",
                fix="Give --keep-best, --ttl, or both: what either keeps stays; or --expired",
            )


@dataclass(frozen=True, kw_only=True)
class Doomed:
    """A checkpoint that would go. paths: what of it is on the disk. size: bytes. value: of the metric."""

    name: str
    line: int
    step: int | None
    paths: tuple[Path, ...]
    size: int
    age: float
    value: float | None


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What would go from one run. note: why nothing may, where something keeps all of it. fingerprint: of the
    folder's files that this was decided by."""

    run_dir: Path
    fingerprint: str = ""
    doomed: tuple[Doomed, ...] = ()
    note: str = ""

    @property
    def size(self) -> int:
        """Bytes that would be freed."""
        return sum(one.size for one in self.doomed)


def plan_run(
    run_dir: Path, contents: RunContents, policy: Policy, *, now: float, loaded: Sequence[str] = ()
) -> RunPlan:
    """Which checkpoints of a run would go; touches nothing.

    now: seconds since 1970. loaded: the checkpoints of this run, by their paths below `checkpoints/`, that other
    runs start from.
    """
    run = contents.run
    if run.state == "running":
        return RunPlan(run_dir=run_dir, note="it is running")
    if "checkpoints.jsonl" in run.warning:
        return RunPlan(run_dir=run_dir, note="its checkpoints.jsonl is damaged")
    present = {one.line: found for one in contents.checkpoints if (found := _on_disk(run_dir, one))}
    if not present:
        return RunPlan(run_dir=run_dir)
    values = _values(contents, policy.metric)
    if policy.keep_best is not None and not values:
        return RunPlan(run_dir=run_dir, note=f"no checkpoint has the metric {policy.metric}, so none is the best")
    needed = {*loaded}
    if run.state != "completed":
        from_journal = needed_by_journal(run_dir)
        if from_journal is None:
            return RunPlan(run_dir=run_dir, note="its journal cannot be read")
        needed |= from_journal
    kept = _kept(contents, present, values, policy, now)
    kept |= {line for line, paths in present.items() if _touches(_keys(paths), needed)}
    staying = {key for line in kept & present.keys() for key in _keys(present[line])}
    doomed = [
        Doomed(
            name=one.name,
            line=one.line,
            step=one.step,
            paths=present[one.line],
            size=sum(_size(path) for path in present[one.line]),
            age=now - _written(present[one.line]),
            value=values.get(one.line),
        )
        for one in contents.checkpoints
        if one.line in present and one.line not in kept and not _touches(_keys(present[one.line]), staying)
    ]
    return RunPlan(run_dir=run_dir, fingerprint=run.fingerprint, doomed=tuple(doomed))


def plan_all(store: RunStore, policy: Policy) -> list[RunPlan]:
    """The plan of every run of a folder, by id; touches nothing."""
    store.refresh()
    now = time.time()
    plans: list[RunPlan] = []
    for name in store.names():
        edges = store.index.edges_into(name)
        loaded = [edge.target.removeprefix(f"{name}/") for edge in edges if edge.relation == "loads"]
        plans.append(plan_run(store.folder / name, store.contents(name), policy, now=now, loaded=loaded))
    return plans


def apply(plan: RunPlan) -> int:
    """Delete what the plan dooms, holding the run's lock; returns the bytes freed: none if the run goes on or has
    changed since the plan was made.

    Each deletion is recorded in `retention.jsonl` before it begins, and a folder is renamed before it is emptied:
    killed at any point, no checkpoint looks whole that is not. `checkpoints.jsonl` keeps its lines.

    Raises:
        ConfigError: if another process took the run's lock at this moment.
        OSError: if something cannot be deleted.
    """
    if is_running(plan.run_dir):
        return 0
    with locked(plan.run_dir):
        if fingerprint(plan.run_dir) != plan.fingerprint:
            return 0
        return _delete(plan)


def _delete(plan: RunPlan) -> int:
    freed = 0
    _sweep(plan.run_dir)
    for one in plan.doomed:
        record = {
            "name": one.name,
            "line": one.line,
            "step": one.step,
            "deleted_at": datetime.now(UTC).isoformat(),
            "bytes": one.size,
            "paths": [str(path.relative_to(plan.run_dir)) for path in one.paths],
        }
        append_durably(plan.run_dir / RETENTION, json.dumps(record).encode() + b"\n")
        for path in one.paths:
            doomed = path.with_name(f"{_LEFTOVER}{path.name}")
            path.rename(doomed)
            _remove(doomed)
        freed += one.size
    return freed


def _kept(
    contents: RunContents,
    present: Mapping[int, tuple[Path, ...]],
    values: Mapping[int, float],
    policy: Policy,
    now: float,
) -> set[int]:
    """The lines of the checkpoints that the rules keep."""
    kept = {one.line for one in contents.checkpoints if one.final}
    if contents.run.state != "completed":
        kept.update(sorted(present)[-_FOR_RESUME:])
    if policy.keep_best is not None:
        sign = -1 if policy.higher_is_better else 1
        ranked = sorted((line for line in present if line in values), key=lambda line: (sign * values[line], -line))
        kept.update(ranked[: policy.keep_best])
    if policy.ttl is not None:
        kept.update(line for line, paths in present.items() if now - _written(paths) < policy.ttl)
    if policy.expired:
        kept.update(one.line for one in contents.checkpoints if not _expired(one, present.get(one.line, ()), now))
    return kept


def _expired(checkpoint: CheckpointRecord, paths: tuple[Path, ...], now: float) -> bool:
    limit = checkpoint.record.get("ttl_seconds")
    return isinstance(limit, int | float) and limit > 0 and bool(paths) and now - _written(paths) > limit


def _values(contents: RunContents, metric: str) -> dict[int, float]:
    """Line of a checkpoint to the metric at its step; a NaN is no value."""
    at_step = {line.step: line.values[metric] for line in contents.metrics if metric in line.values}
    found = {one.line: at_step[one.step] for one in contents.checkpoints if one.step in at_step}
    return {line: value for line, value in found.items() if not math.isnan(value)}


def _on_disk(run_dir: Path, checkpoint: CheckpointRecord) -> tuple[Path, ...]:
    found = (here(run_dir, path) for path in paths_of(checkpoint.record))
    return tuple(dict.fromkeys(path for path in found if path is not None))


def _keys(paths: Sequence[Path]) -> set[str]:
    return {below_checkpoints(str(path)) for path in paths}


def _touches(keys: set[str], others: set[str]) -> bool:
    """Whether one is the other, or lies in it."""
    return any(
        key == other or key.startswith(f"{other}/") or other.startswith(f"{key}/") for key in keys for other in others
    )


def _written(paths: Sequence[Path]) -> float:
    """When the newest part of it was written, in seconds since 1970."""
    return max(file.lstat().st_mtime for path in paths for file in (path, *path.rglob("*")))


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in (path, *path.rglob("*")) if not file.is_dir())


def _sweep(run_dir: Path) -> None:
    """Finish deletions that a kill cut short."""
    for path in (run_dir / "checkpoints").rglob(f"{_LEFTOVER}*"):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        os.unlink(path)  # noqa: PTH108  (says that a link goes, not what it points at)
