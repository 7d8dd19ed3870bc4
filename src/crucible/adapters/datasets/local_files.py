"""How does a file, or a folder of files, on this machine become a data set? `LocalFilesStore`."""

import difflib
import hashlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, cast

from crucible.adapters.datasets.file_formats import READERS, is_utf16, parse_json, rows_of
from crucible.adapters.datasets.records import Item, Record, checked
from crucible.errors import DataError, Problem, did_you_mean
from crucible.ports.dataset_store import DatasetInfo, DatasetStore, Row, RowSet


@dataclass(frozen=True, kw_only=True)
class _Source:
    """One split: a file, or the list that was found inside a JSON file (`values`)."""

    path: Path
    shown: str
    values: Sequence[Any] | None = None

    def items(self) -> Iterator[Item]:
        """The rows and the problems, in file order."""
        if self.values is not None:
            return rows_of(self.values, self.shown)
        if is_utf16(self.path):
            return iter([Problem(what="the file is UTF-16", where=self.shown, fix="Save it as UTF-8")])
        return READERS[self.path.suffix.lower()](self.path, self.shown)


class LocalFilesStore(DatasetStore):
    """Data sets by path.

    A `.jsonl`, `.csv` or `.parquet` file is one split, `train`. A `.json` file is a list of rows (`train`) or a
    mapping from split to list. In a folder every such file is the split that it is named after (`train.jsonl`,
    `test.jsonl`). Text is UTF-8. Mistakes are reported by file and line, the first 20 of them together.
    A stream of a `.json` file parses it whole; of the others it holds a row, or a batch of Parquet's.
    """

    adapter_name: ClassVar[str] = "local"

    def accepts(self, reference: str) -> bool:
        try:
            if Path(reference).expanduser().exists():
                return bool(reference)
        except (OSError, RuntimeError, ValueError):  # too long, an unknown ~user, a NUL: no path
            return False
        suffix = Path(reference).suffix.lower()
        looks_like_a_path = reference.startswith(("./", "../", "/", "~"))
        return looks_like_a_path or bool(suffix and difflib.get_close_matches(suffix, READERS, cutoff=0.7))

    def info(self, reference: str) -> DatasetInfo:
        with _readable(reference):
            counts: dict[str, int | None] = {}
            columns: dict[str, None] = {}
            for split, source in _sources(reference).items():
                counts[split] = 0
                for count, record in enumerate(checked(source.items(), name=source.shown), start=1):
                    counts[split] = count
                    columns.update(dict.fromkeys(record.row))
        return DatasetInfo(name=reference, splits=counts, columns=tuple(columns), source=reference)

    def load(self, reference: str, *, split: str = "train", limit: int | None = None) -> RowSet:
        records = list(islice(self._records(reference, split), limit))
        return RowSet([record.row for record in records], name=reference, origins=[record.origin for record in records])

    def stream(self, reference: str, *, split: str = "train") -> Iterator[Row]:
        return (record.row for record in self._records(reference, split))

    def fingerprint(self, reference: str, *, split: str = "train") -> str:
        """SHA-256 of the file's bytes."""
        with _readable(reference), _source(reference, split).path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _records(self, reference: str, split: str) -> Iterator[Record]:
        with _readable(reference):
            source = _source(reference, split)
            yield from checked(source.items(), name=source.shown)


def _source(reference: str, split: str) -> _Source:
    sources = _sources(reference)
    if split not in sources:
        raise DataError.of(
            "there is no such split", where=reference, given=split, fix=f"It has {', '.join(sorted(sources))}"
        )
    return sources[split]


@contextmanager
def _readable(reference: str) -> Generator[None]:
    """Translate what the file system says.

    Raises:
        DataError: for an OSError, or a path that is none.
    """
    try:
        yield
    except OSError as error:
        raise DataError.of(f"this cannot be read: {error.strerror or error}", where=reference) from error
    except RuntimeError as error:  # expanduser: an unknown ~user
        raise DataError.of(str(error), where=reference) from error


def _sources(reference: str) -> dict[str, _Source]:
    """Split to source.

    Raises:
        DataError: if there is nothing at that path, or nothing that has a reader.
    """
    path = Path(reference).expanduser()
    if not reference or "\0" in reference or not path.exists():
        near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, near, n=1)
        hint = f", did you mean {close[0]}?" if close else ""
        raise DataError.of(f"there is no such file or folder{hint}", given=reference)
    if path.is_dir():
        return _folder_sources(path, reference)
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise DataError.of(
            f"a file of rows has the extension {', '.join(READERS)}; {did_you_mean(suffix, READERS)}", given=reference
        )
    parsed = parse_json(path, reference) if suffix == ".json" else None
    if isinstance(parsed, list):
        return {"train": _Source(path=path, shown=reference, values=cast(list[Any], parsed))}
    if not isinstance(parsed, dict):
        return {"train": _Source(path=path, shown=reference)}
    splits = cast(dict[str, Any], parsed)
    if not splits or not all(isinstance(rows, list) for rows in splits.values()):
        raise DataError.of("a JSON file of rows is a list of objects, or maps splits to such lists", where=reference)
    return {split: _Source(path=path, shown=f"{reference}[{split}]", values=rows) for split, rows in splits.items()}


def _folder_sources(folder: Path, reference: str) -> dict[str, _Source]:
    sources: dict[str, _Source] = {}
    problems: list[Problem] = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in READERS or path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in sources:
            problems.append(Problem(what=f"two files are the split {path.stem!r}", where=reference, given=path.name))
        sources[path.stem] = _Source(path=path, shown=f"{reference.rstrip('/')}/{path.name}")
    if problems:
        raise DataError(problems)
    if not sources:
        raise DataError.of(
            "the folder holds no file of rows", where=reference, fix="Put train.jsonl into it, or .json, .csv, .parquet"
        )
    return sources
