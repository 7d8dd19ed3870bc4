"""What does a run leave in its folder, beside what its stages write?"""

import json
import os
import re
import shutil
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crucible.errors import ConfigError, ResumeError
from crucible.framework import Run, RunResult, read_history, write_atomically
from crucible.ir import Experiment, from_json, to_json
from crucible.runtime.run_lock import is_running as is_running

RESUME_MODES = ("auto", "never", "must")


_INPUTS = (
    "experiment.json",
    "config.json",
    "summary.json",
    "error.txt",
    "events.jsonl",
    "journal.jsonl",
    "run.lock",
    "trace.json",
)
_ENDED = ("summary.json", "error.txt")


def make(run_dir: Path) -> None:
    """Make the folder if it is not there, and see that it can be written to.

    Raises:
        ConfigError: if it is a file, or cannot be made or written to.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError.of(f"the folder cannot be made: {error.strerror}", where=str(run_dir)) from error
    if not os.access(run_dir, os.W_OK):
        raise ConfigError.of("the folder cannot be written to", where=str(run_dir))


def claim(run_dir: Path, *, resume: str) -> Experiment | None:
    """The experiment of the unfinished run that the folder holds and that is to be continued; None for a fresh run.

    Nothing that was computed is overwritten: a finished run is refused, and with `resume="never"` any run is. A run
    that ended before it computed anything (its data or its model was wrong) makes room for the next one.

    Raises:
        ConfigError: if the folder holds a run that is not to be continued.
        ResumeError: for `resume="must"`, if there is none to continue.
        SpecError: if the run's `experiment.json` is damaged.
    """
    file = run_dir / "experiment.json"
    if resume != "must" and _computed_nothing(run_dir):
        # The journal first: a fresh run must never find the one of another.
        for name in ("journal.jsonl", *(name for name in _INPUTS if name not in ("journal.jsonl", "run.lock"))):
            (run_dir / name).unlink(missing_ok=True)
    if not file.exists():
        if resume == "must":
            raise ResumeError.of("this folder holds no run to continue", where=str(run_dir))
        (run_dir / "journal.jsonl").unlink(missing_ok=True)
        return None
    if is_complete(run_dir):
        what, fix = "this folder holds a run that is complete", "Give another --run-dir, or delete this one"
        raise (ResumeError if resume == "must" else ConfigError).of(what, where=str(run_dir), fix=fix)
    if resume == "never":
        fix = "Continue it with --resume auto, give another --run-dir, or delete this one"
        raise ConfigError.of("this folder already holds a run", where=str(run_dir), fix=fix)
    return from_json(file.read_bytes())


def require_mode(resume: str) -> None:
    """Raise ConfigError unless it is one of `RESUME_MODES`."""
    if resume not in RESUME_MODES:
        raise ConfigError.of(f"resume must be one of {', '.join(RESUME_MODES)}", where="resume", given=resume)


def reopen(run_dir: Path) -> None:
    """Take away what said how the run had ended: it goes on."""
    for name in _ENDED:
        (run_dir / name).unlink(missing_ok=True)


def sweep(run_dir: Path) -> None:
    """Delete what a kill left half-written: files and folders under our own temporary names, and nothing else. (The
    folder may be the user's own, with hidden files in it.)"""
    checkpoints = run_dir / "checkpoints"
    kinds = [kind for kind in checkpoints.glob("*") if kind.is_dir() and not kind.is_symlink()]
    for place, form in (
        *((each, _FILE_IN_THE_MAKING) for each in (run_dir, run_dir / "tokens", run_dir / "rollouts")),
        *((each, _FOLDER_IN_THE_MAKING) for each in (checkpoints, *kinds)),
    ):
        for left in place.glob(".*"):
            if left.is_symlink() or not form.fullmatch(left.name):
                continue
            shutil.rmtree(left) if left.is_dir() else left.unlink()


_FILE_IN_THE_MAKING = re.compile(r"\.[a-z_]+(-\d+)?\.[a-z]+\.\d+-\d+")
"""`.summary.json.PID-THREAD` and `.step-00000004.json.PID-THREAD`, as `write_atomically` names them."""
_FOLDER_IN_THE_MAKING = re.compile(r"\..+\.[^.]{8}|\.(saving|deleting)-.+|\..+\.\d+-\d+")
"""`.step-000004.RANDOM`, as checkpoints are named until they are whole."""


def _status(run_dir: Path) -> str:
    try:
        return str(json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))["status"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _computed_nothing(run_dir: Path) -> bool:
    ended = _status(run_dir) in ("failed", "interrupted")
    if not ended or not {path.name for path in run_dir.iterdir()} <= set(_INPUTS):
        return False
    last = read_history(run_dir).last
    return not (last.slots or last.artifacts or last.checkpoints)


def is_complete(run_dir: Path) -> bool:
    """Whether the folder holds a run that came to its end."""
    return _status(run_dir) == "completed"


def write_inputs(run_dir: Path, experiment: Experiment, *, origins: Mapping[str, str]) -> None:
    """`experiment.json` (all that is needed to run again) and `config.json` (every value and its origin)."""
    write_atomically(run_dir / "experiment.json", to_json(experiment))
    config = {
        key: {"value": value, "origin": origins.get(key, "experiment.json")}
        for key, value in (experiment.config or {}).items()
    }
    write_json(run_dir / "config.json", config)


def write_summary(run_dir: Path, result: RunResult) -> None:
    """`summary.json`: what came out."""
    summary: dict[str, Any] = {
        "status": result.status,
        "recipe": result.recipe,
        "run_id": result.run_id,
        "started_at": result.started_at.isoformat(),
        "seconds": result.duration,
        **result.results,
        "artifacts": {name: str(path) for name, path in result.artifacts.items()},
        "completed_stages": list(result.completed_stages),
    }
    write_json(run_dir / "summary.json", summary)


def write_failure(run_dir: Path, run: Run, error: BaseException, *, status: str) -> None:
    """`summary.json` with the status, and the traceback in `error.txt`. A full disk never hides the error itself."""
    told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    summary = {
        "status": status,
        "recipe": run.recipe,
        "run_id": run.run_id,
        "started_at": run.started_at.isoformat(),
        "error": told,
    }
    try:
        write_atomically(run_dir / "error.txt", "".join(traceback.format_exception(error)).encode())
        write_json(run_dir / "summary.json", summary)
    except OSError as full:
        error.add_note(f"and the run folder could not be written to: {full}")


def write_json(path: Path, data: object) -> None:
    """Indented JSON, whole or not at all."""
    write_atomically(path, (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode())
