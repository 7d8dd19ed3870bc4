"""What do the files say that a run writes whole: its experiment, its config, its summary, its checkpoints?"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from crucible.runtime.run_events import LONGEST_NAME, whole
from crucible.runtime.run_lineage import here, paths_of
from crucible.runtime.run_lines import parse_object
from crucible.store.records import ArtifactRecord, CheckpointRecord, ExperimentRecord

RETENTION = "retention.jsonl"
"""What `crucible runs gc` removed from the folder: one line per checkpoint."""

MARKS = ("experiment.json", "events.jsonl", "metrics.jsonl", "checkpoints.jsonl")
"""The files of which a run folder has at least one."""

_FILES = (*MARKS, "config.json", "summary.json", RETENTION)
_FIXED = ("status", "recipe", "run_id", "started_at", "seconds", "artifacts", "completed_stages", "error")


def is_run_folder(path: Path) -> bool:
    """Whether a run has written there."""
    return any((path / name).is_file() for name in MARKS)


def fingerprint(run_dir: Path) -> str:
    """Changes when a file of the run does: a digest of their sizes and times."""
    seen: list[str] = []
    for name in _FILES:
        try:
            status = (run_dir / name).stat()
        except OSError:
            continue
        seen.append(f"{name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()[:32]


@dataclass(kw_only=True)
class RunFiles:
    """What was found. experiment_json, summary: the documents. warnings: what could not be read."""

    experiment: ExperimentRecord | None = None
    experiment_json: Mapping[str, Any] = field(default_factory=dict[str, Any])
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    summary: Mapping[str, Any] = field(default_factory=dict[str, Any])
    checkpoints: tuple[CheckpointRecord, ...] = ()
    artifacts: tuple[ArtifactRecord, ...] = ()
    warnings: list[str] = field(default_factory=list[str])

    @property
    def results(self) -> dict[str, Any]:
        """What stages recorded for the summary."""
        return {key: value for key, value in self.summary.items() if key not in _FIXED}


def read_files(run_dir: Path) -> RunFiles:
    """Read them; what is damaged is left out, with a warning.

    Raises:
        OSError: if the folder cannot be read.
    """
    found = RunFiles()
    text = _bytes(run_dir / "experiment.json")
    document = _document(text, "experiment.json", found.warnings)
    if text is None:
        found.warnings.append("there is no experiment.json")
    elif document is not None:
        found.experiment_json = document
        found.experiment = ExperimentRecord(
            digest=hashlib.sha256(text).hexdigest(),
            recipe=str(document.get("id", "")),
            workflow=str(document.get("name") or document.get("id", "")),
            description=str(document.get("description", "")),
        )
    found.config = _config(run_dir, found)
    found.summary = _document(_bytes(run_dir / "summary.json"), "summary.json", found.warnings) or {}
    found.checkpoints = _checkpoints(run_dir, found.warnings)
    found.artifacts = _artifacts(found.summary)
    return found


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _document(text: bytes | None, name: str, warnings: list[str]) -> Mapping[str, Any] | None:
    document = parse_object(text) if text is not None else None
    if text is not None and document is None:
        warnings.append(f"{name} is damaged")
    return document


def _config(run_dir: Path, found: RunFiles) -> Mapping[str, Any]:
    """`{key: {"value", "origin"}}`; from the experiment itself where `config.json` is missing or damaged."""
    document = _document(_bytes(run_dir / "config.json"), "config.json", found.warnings)
    if document is not None:
        good: dict[str, Any] = {key: value for key, value in document.items() if _has_value(value)}
        if len(good) < len(document):
            found.warnings.append("config.json is damaged")
        return good
    plain = found.experiment_json.get("config")
    values = cast(dict[str, Any], plain) if isinstance(plain, dict) else {}
    return {key: {"value": value, "origin": "experiment.json"} for key, value in values.items()}


def _has_value(entry: Any) -> bool:
    return isinstance(entry, dict) and "value" in entry


def _checkpoints(run_dir: Path, warnings: list[str]) -> tuple[CheckpointRecord, ...]:
    deleted = _deletions(run_dir)
    records: list[CheckpointRecord] = []
    damaged: list[int] = []
    lines = (_bytes(run_dir / "checkpoints.jsonl") or b"").split(b"\n")[:-1]  # the last part is no whole line
    for number, line in enumerate(lines):
        record = parse_object(line)
        if record is None:
            damaged.append(number)
            continue
        name = str(record.get("name", f"line {number + 1}"))
        gone = not any(here(run_dir, path) for path in paths_of(record))
        records.append(
            CheckpointRecord(
                line=number,
                name=name,
                step=whole(record.get("step")),
                final=record.get("final") is True,
                record=record,
                deleted_at=deleted.get(name, "") if gone else "",
            )
        )
    if damaged:
        warnings.append(damage("checkpoints.jsonl", damaged))
    return tuple(records)


def _deletions(run_dir: Path) -> dict[str, str]:
    """Checkpoint name to when retention removed it last."""
    found: dict[str, str] = {}
    for line in (_bytes(run_dir / RETENTION) or b"").split(b"\n")[:-1]:
        record = parse_object(line) or {}
        if isinstance(record.get("name"), str) and isinstance(record.get("deleted_at"), str):
            found[record["name"]] = record["deleted_at"]
    return found


def _artifacts(summary: Mapping[str, Any]) -> tuple[ArtifactRecord, ...]:
    named = summary.get("artifacts")
    if not isinstance(named, dict):
        return ()
    items = sorted(cast(dict[str, Any], named).items())
    return tuple(ArtifactRecord(name=name, path=str(path)) for name, path in items if len(name) <= LONGEST_NAME)


def damage(file: str, lines: list[int]) -> str:
    """The words for damaged lines, counted from 0, of a file."""
    if len(lines) == 1:
        return f"line {lines[0] + 1} of {file} is damaged"
    return f"{len(lines)} lines of {file} are damaged, the first is {lines[0] + 1}"
