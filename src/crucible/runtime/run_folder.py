"""What does a run leave in its folder, beside what its stages write?"""

import json
import os
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crucible.errors import ConfigError, UnsupportedError
from crucible.framework import Run, RunResult, write_atomically
from crucible.ir import Experiment, to_json

RESUME_MODES = ("auto", "never", "must")


_INPUTS = ("experiment.json", "config.json", "summary.json", "error.txt", "events.jsonl")


def claim(run_dir: Path, *, resume: str) -> None:
    """Make the folder, or refuse one that holds a run already: nothing that was computed is overwritten.

    A run that ended before it computed anything (its data or its model was wrong) makes room for the next one.

    Raises:
        ConfigError: if the folder holds a run, is a file, or cannot be written to.
        UnsupportedError: for `resume="must"`: resuming is not there yet.
    """
    if resume not in RESUME_MODES:
        raise ConfigError.of(f"resume must be one of {', '.join(RESUME_MODES)}", where="resume", given=resume)
    if resume == "must":
        raise UnsupportedError.of("runs cannot be resumed in this version", where=str(run_dir))
    if _computed_nothing(run_dir):
        for name in _INPUTS:
            (run_dir / name).unlink(missing_ok=True)
    if (run_dir / "experiment.json").exists():
        raise ConfigError.of(
            "this folder already holds a run, which is left as it is",
            where=str(run_dir),
            fix="Give another --run-dir, or delete this one",
        )
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError.of(f"the folder cannot be made: {error.strerror}", where=str(run_dir)) from error
    if not os.access(run_dir, os.W_OK):
        raise ConfigError.of("the folder cannot be written to", where=str(run_dir))


def _computed_nothing(run_dir: Path) -> bool:
    try:
        ended = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))["status"] in (
            "failed",
            "interrupted",
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return ended and {path.name for path in run_dir.iterdir()} <= set(_INPUTS)


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
