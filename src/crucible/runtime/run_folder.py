"""What does a run leave in its folder, beside what its stages write?"""

import json
import os
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crucible.errors import ConfigError, UnsupportedError
from crucible.framework import RunResult, write_atomically
from crucible.ir import Experiment, to_json

RESUME_MODES = ("auto", "never", "must")


def claim(run_dir: Path, *, resume: str) -> None:
    """Make the folder, or refuse one that holds a run already: nothing is overwritten.

    Raises:
        ConfigError: if the folder holds a run, is a file, or cannot be written to.
        UnsupportedError: for `resume="must"`: resuming is not there yet.
    """
    if resume not in RESUME_MODES:
        raise ConfigError.of(f"resume must be one of {', '.join(RESUME_MODES)}", where="resume", given=resume)
    if resume == "must":
        raise UnsupportedError.of("runs cannot be resumed in this version", where=str(run_dir))
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


def write_failure(run_dir: Path, error: BaseException, *, status: str) -> None:
    """`summary.json` with the status, and the traceback in `error.txt`."""
    text = "".join(traceback.format_exception(error))
    write_atomically(run_dir / "error.txt", text.encode())
    write_json(run_dir / "summary.json", {"status": status, "error": f"{type(error).__name__}: {error}"})


def write_json(path: Path, data: object) -> None:
    """Indented JSON, whole or not at all."""
    write_atomically(path, (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode())
