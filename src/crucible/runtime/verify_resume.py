"""Is a run that is killed again and again the run that was never killed? Done for real, and compared byte by byte."""

import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crucible.errors import ConfigError
from crucible.framework import Workflow, read_history
from crucible.ir import Experiment
from crucible.runtime import run_folder
from crucible.testing.killing import Aim, arm

_PRELOADED = ("crucible.runtime.facade", "crucible.engine.room", "crucible.adapters.tokenizer")
"""What every child would import: done once, in the server that they are forked from."""
_SAME = ("metrics.jsonl", "checkpoints.jsonl")
_PATIENCE = 100
"""Children that end by themselves before their kill comes, at most."""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One kill. recorded: metrics rows that were written by then; kept: those that the run went on from."""

    aim: Aim
    recorded: int
    kept: int
    position: str

    @property
    def recomputed(self) -> int:
        """Rows that had to be computed again."""
        return self.recorded - self.kept


@dataclass(kw_only=True)
class Verification:
    """What came out. runs: killed runs that were brought to their end. differences: files that are not the straight
    run's, by path."""

    straight: Path
    seconds: float
    runs: list[Path] = field(default_factory=list[Path])
    kills: list[Kill] = field(default_factory=list[Kill])
    differences: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, kw_only=True)
class Job:
    """How the run is started, in a process of its own. prepare: called first there; a module's function."""

    work: "Experiment | Workflow"
    options: Mapping[str, Any]
    prepare: Callable[[], None] | None = None


def verify_resume(
    job: Job,
    *,
    kills: int,
    seed: int,
    folder: Path,
    stages: Sequence[str] = ("optim_step",),
    tell: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Run once straight, then with `kill -9`; compare metrics, checkpoints and final weights.

    kills: how many, over as many killed runs as it takes; a third of them inside a checkpoint write or just after
    one of `stages` has submitted its work, the others at random times. folder: where the runs go; kept.

    Raises:
        ConfigError: if the straight run fails, or a killed one fails otherwise than by its kill.
    """
    chance = random.Random(seed)
    straight = folder / "straight" / "run"
    _require(_child(job, straight, aim=None), straight, killed=False)
    seconds = float(json.loads((straight / "summary.json").read_text(encoding="utf-8"))["seconds"])
    found = Verification(straight=straight, seconds=seconds)
    tell(f"straight: {found.seconds:.1f} s in {straight}")
    for number in range(1, _PATIENCE):
        run_dir = folder / f"killed-{number}" / "run"
        done = False
        while not done and len(found.kills) < kills:
            aim = _aim(chance, len(found.kills), seconds=found.seconds, stages=stages)
            code = _child(job, run_dir, aim=aim)
            _require(code, run_dir, killed=True)
            # A kill may land after the run's last word: there is then nothing left to resume.
            done = code == 0 or run_folder.is_complete(run_dir)
            if not done:
                found.kills.append(_kill_in(run_dir, aim))
                tell(f"kill {len(found.kills)}/{kills} {aim}: {_told(found.kills[-1])}")
        if not done:
            _require(_child(job, run_dir, aim=None), run_dir, killed=False)
        found.runs.append(run_dir)
        different = [f"{run_dir / name}" for name in _different(straight, run_dir)]
        found.differences += different
        tell(f"{run_dir}: {'DIFFERENT' if different else 'the same bytes'}")
        if len(found.kills) >= kills:
            return found
    raise ConfigError.of("the run ends before it can be killed; make it longer", where=str(folder), given=str(kills))


def files_of(run_dir: Path) -> Iterator[tuple[str, str]]:
    """(name, sha256) of every file that must be the same: metrics, checkpoints, weights, recorded tokens and rollouts.

    Not the journal of verdicts: graders end when they end, and each verdict is in the rollout that it belongs to.
    """
    below = [path for name in ("checkpoints", "tokens") for path in (run_dir / name).rglob("*")]
    below += (run_dir / "rollouts").glob("step-*")
    for path in sorted([*(run_dir / name for name in _SAME), *below]):
        if path.is_file():
            yield str(path.relative_to(run_dir)), hashlib.sha256(path.read_bytes()).hexdigest()


def _different(straight: Path, other: Path) -> list[str]:
    one, two = dict(files_of(straight)), dict(files_of(other))
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


def _aim(chance: random.Random, number: int, *, seconds: float, stages: Sequence[str]) -> Aim:
    """Every third kill is aimed: at a checkpoint's files and at work in flight in turn."""
    if number % 3 != 1:
        return Aim(target="time", seconds=chance.uniform(0, seconds))
    if number % 2 or not stages:
        return Aim(target="checkpoint", count=chance.randint(1, 20))
    return Aim(
        target="stage", name=chance.choice(list(stages)), count=chance.randint(1, 6), seconds=chance.uniform(0, 0.02)
    )


def _kill_in(run_dir: Path, aim: Aim) -> Kill:
    metrics = run_dir / "metrics.jsonl"
    rows = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
    last = read_history(run_dir).last
    return Kill(aim=aim, recorded=rows, kept=min(rows, last.metrics_rows), position=str(last.position))


def _told(kill: Kill) -> str:
    return f"{kill.recorded} rows written, goes on from {kill.position}, {kill.recomputed} to compute again"


def _child(job: Job, run_dir: Path, *, aim: Aim | None) -> int:
    """Run in a new process until it ends or is killed; its exit code, negative for a signal."""
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    process = context.Process(target=_run, args=(job, run_dir, aim))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _run(job: Job, run_dir: Path, aim: Aim | None) -> None:
    """The child's side."""
    log = (run_dir.parent / "log.txt").open("a")
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(log.fileno(), stream.fileno())
    if job.prepare is not None:
        job.prepare()
    if aim is not None:
        arm(aim)
    from crucible.runtime import facade

    facade.run(job.work, run_dir=run_dir, **job.options)
    with contextlib.suppress(OSError):
        log.flush()


def _require(code: int, run_dir: Path, *, killed: bool) -> None:
    if code == 0 or (killed and code == -signal.SIGKILL):
        return
    log = (run_dir.parent / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise ConfigError.of(
        "the run failed by itself", where=str(run_dir), given=log[-1] if log else f"exit {code}", fix="See log.txt"
    )
