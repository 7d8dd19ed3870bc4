"""What did a run come from, and what came from it? Edges, read from what its files name."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast

from crucible.runtime.run_events import LONGEST_NAME
from crucible.store.records import Edge

_FOLDER = "checkpoints/"


def paths_of(record: Mapping[str, Any]) -> list[str]:
    """The paths in a line of `checkpoints.jsonl`: every text under a key that ends in `_path` or is `path`."""
    return [
        value
        for key, value in record.items()
        if (key == "path" or key.endswith("_path")) and isinstance(value, str) and value
    ]


def below_checkpoints(path: str) -> str:
    """The part of a checkpoint's path below its run's `checkpoints/`; empty if it is not in such a folder."""
    _, inside, rest = path.rpartition(_FOLDER)
    return rest if inside else ""


def here(run_dir: Path, path: str) -> Path | None:
    """Where in the run's own folder a checkpoint lies, also when the folder was moved since; None if it is not there.

    A path that leads out of the folder, by `..` or a link, is not there.
    """
    rest = below_checkpoints(path)
    folder = run_dir / "checkpoints"
    found = folder / rest
    if not rest or ".." in PurePosixPath(rest).parts or not found.exists():
        return None
    return found if found.resolve() == folder.resolve() / rest.rstrip("/") else None


def edges_of(
    run: str,
    *,
    experiment: str | None,
    document: Mapping[str, Any],
    checkpoints: Sequence[Mapping[str, Any]],
    artifacts: Mapping[str, str],
) -> tuple[Edge, ...]:
    """The edges that a run's files tell of, sorted. document: its `experiment.json`."""
    edges: set[Edge] = set()

    def add(source_kind: str, source: str, relation: str, target_kind: str, target: str) -> None:
        if max(len(source), len(target)) <= LONGEST_NAME:
            edges.add(
                Edge(source_kind=source_kind, source=source, relation=relation, target_kind=target_kind, target=target)
            )

    if experiment is not None:
        add("run", run, "of", "experiment", experiment)
    for path in (path for record in checkpoints for path in paths_of(record)):
        add("checkpoint", _key(run, path), "made by", "run", run)
    for name, path in artifacts.items():
        add("artifact", f"{run}/{name}", "made by", "run", run)
        if below_checkpoints(path):
            add("artifact", f"{run}/{name}", "is", "checkpoint", _key(run, path))
    for other, path in _loaded(document):
        if other != run:
            add("run", run, "loads", "checkpoint", _key(other, path))
    return tuple(sorted(edges))


def _key(run: str, path: str) -> str:
    return f"{run}/{below_checkpoints(path) or path}"


def _loaded(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(run, path) of every text in an experiment that looks like `.../RUN/checkpoints/...`."""
    for text in texts_in([document.get("pipeline"), document.get("config")]):
        head, inside, _ = text.rpartition(f"/{_FOLDER}")
        run = PurePosixPath(head).name
        if inside and run and len(text) <= 4096:
            yield run, text


def texts_in(value: Any) -> Iterator[str]:
    """Every text in JSON data."""
    waiting: list[Any] = [value]
    while waiting:  # by hand: a damaged file may nest deeper than Python recurses
        found = waiting.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, dict):
            waiting.extend(cast(dict[str, Any], found).values())
        elif isinstance(found, list):
            waiting.extend(cast(list[Any], found))
