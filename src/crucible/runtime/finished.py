"""What did a finished run leave behind, and how is it opened again?"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crucible.errors import CheckpointError, ConfigError
from crucible.framework import read_history
from crucible.ir import Experiment, from_json


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run folder, read. checkpoints: the lines of `checkpoints.jsonl`, in order."""

    run_dir: Path
    experiment: Experiment
    checkpoints: tuple[Mapping[str, Any], ...]

    @property
    def model(self) -> str:
        """The base model's reference."""
        return str(self.config["model"])

    @property
    def config(self) -> Mapping[str, Any]:
        """Every config value of the run."""
        return self.experiment.config or {}

    @property
    def manifest(self) -> str:
        """The manifest that it was run with."""
        return str(read_history(self.run_dir).facts.get("manifest") or "default")

    @property
    def sampler_path(self) -> str:
        """The final weights; of a run that was interrupted, those of its latest checkpoint.

        Raises:
            CheckpointError: if the run saved none.
        """
        return self._last("state_path" if self.weights_note else "sampler_path")

    @property
    def weights_note(self) -> str:
        """What to tell of the weights at `sampler_path`: of which step they are, if not of the run's end."""
        if any("sampler_path" in record for record in self.checkpoints):
            return ""
        steps = [record.get("step") for record in self.checkpoints if "state_path" in record]
        return f"this run has not finished; these are its weights after step {steps[-1]}" if steps else ""

    @property
    def state_path(self) -> str:
        """The latest training state.

        Raises:
            CheckpointError: if the run saved none.
        """
        return self._last("state_path")

    def _last(self, key: str) -> str:
        for record in reversed(self.checkpoints):
            if key in record:
                return self._as_it_is_now(str(record[key]))
        raise CheckpointError.of(
            "this run has saved no weights", where=str(self.run_dir), fix="Let it finish, or set save_every"
        )

    def _as_it_is_now(self, path: str) -> str:
        """The same weights from this working folder, also when the run's folder was moved since."""
        _, inside, rest = path.rpartition("checkpoints/")
        here = self.run_dir / "checkpoints" / rest
        return str(here) if inside and here.exists() else path


def open_run(run_dir: Path) -> FinishedRun:
    """Read a run folder.

    Raises:
        ConfigError: if it is no run folder.
        SpecError: if its `experiment.json` is damaged.
        CheckpointError: if its `checkpoints.jsonl` is damaged.
    """
    file = run_dir / "experiment.json"
    if not file.is_file():
        raise ConfigError.of("is no run folder: it has no experiment.json", where=str(run_dir))
    records = run_dir / "checkpoints.jsonl"
    lines = records.read_text(encoding="utf-8").splitlines() if records.is_file() else []
    checkpoints: list[Mapping[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            checkpoints.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise CheckpointError.of(f"is not JSON: {error}", where=f"{records}:{number}") from error
    experiment = from_json(file.read_bytes())
    return FinishedRun(run_dir=run_dir, experiment=experiment, checkpoints=tuple(checkpoints))
