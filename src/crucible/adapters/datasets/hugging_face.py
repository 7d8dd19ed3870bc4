# pyright: standard
# (the `datasets` library's types are incomplete)
"""How does a data set of the Hugging Face hub get read? `HfDatasetsStore`, over the `datasets` library."""

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, cast

from crucible.adapters.hub.token import hub_token
from crucible.errors import DataError, MissingExtraError, UserError
from crucible.ports.dataset_store import DatasetInfo, DatasetStore, Row, RowSet

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(:[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class HfDatasetsStore(DatasetStore):
    """Data sets by hub id (`org/name`, or `org/name:config`), or by a folder in the layout of the hub.

    token: a hub token; else HF_TOKEN, else HUGGING_FACE_HUB_TOKEN, else the login of `huggingface_hub`.
    cache_dir: where `datasets` keeps what it prepared; its own cache by default.
    """

    adapter_name: ClassVar[str] = "hf"

    def __init__(self, *, token: str | None = None, cache_dir: Path | None = None) -> None:
        self._token = hub_token(token)
        self._cache_dir = cache_dir

    def accepts(self, reference: str) -> bool:
        return bool(_HUB_ID.fullmatch(reference)) or _is_folder(reference)

    def info(self, reference: str) -> DatasetInfo:
        with _translated(reference) as datasets:
            known = datasets.load_dataset_builder(*_parts(reference), **self._options()).info
            splits = dict.fromkeys(self._splits(datasets, reference))
            sizes = {split: size.num_examples for split, size in (known.splits or {}).items() if size.num_examples}
        first = next(self.stream(reference, split=next(iter(splits)))) if not known.features else known.features
        return DatasetInfo(
            name=reference,
            splits={**splits, **sizes},
            columns=tuple(first),
            license=known.license or "",
            source=known.homepage or "",
        )

    def load(self, reference: str, *, split: str = "train", limit: int | None = None) -> RowSet:
        with _translated(reference) as datasets:
            self._require_split(datasets, reference, split)
            data = datasets.load_dataset(*_parts(reference), split=split, **self._options())
        if not len(data):
            raise _empty(reference, split)
        rows = data if limit is None else data.select(range(min(limit, len(data))))
        return RowSet(cast(Sequence[Row], rows), name=f"{reference}[{split}]")

    def stream(self, reference: str, *, split: str = "train") -> Iterator[Row]:
        with _translated(reference) as datasets:
            self._require_split(datasets, reference, split)
            rows = iter(datasets.load_dataset(*_parts(reference), split=split, streaming=True, **self._options()))
            first = next(rows, None)
            if first is None:
                raise _empty(reference, split)
            yield from chain([first], rows)

    def fingerprint(self, reference: str, *, split: str = "train") -> str:
        """The commit of the hub's repository; a folder has none."""
        with _translated(reference) as datasets:
            self._require_split(datasets, reference, split)
            if _is_folder(reference):
                return ""
            commit = datasets.load_dataset_builder(*_parts(reference), **self._options()).hash or ""
        return commit if _COMMIT.fullmatch(commit) else ""

    def _options(self) -> dict[str, Any]:
        return {"token": self._token, "cache_dir": None if self._cache_dir is None else str(self._cache_dir)}

    def _splits(self, datasets: Any, reference: str) -> list[str]:
        path, config = _parts(reference)
        return list(datasets.get_dataset_split_names(path, config, **self._options()))

    def _require_split(self, datasets: Any, reference: str, split: str) -> None:
        splits = self._splits(datasets, reference)
        if split not in splits:
            raise DataError.of(
                "there is no such split", where=reference, given=split, fix=f"It has {', '.join(sorted(splits))}"
            )


def _parts(reference: str) -> tuple[str, str | None]:
    """(path, config) of `org/name:config`."""
    if _is_folder(reference):
        return reference, None
    path, _, config = reference.partition(":")
    return path, config or None


def _is_folder(reference: str) -> bool:
    try:
        return bool(reference) and Path(reference).is_dir()
    except OSError:  # too long for a path
        return False


def _empty(reference: str, split: str) -> DataError:
    return DataError.of("there are no rows in it", where=f"{reference}[{split}]")


@contextmanager
def _translated(reference: str) -> Generator[Any]:
    """The `datasets` module, whose errors become ours inside the block.

    Raises:
        MissingExtraError: if it is not installed.
        DataError: for whatever it raises about a data set.
    """
    try:
        import datasets
        import pyarrow
        from datasets import exceptions
    except ImportError as error:
        raise MissingExtraError.for_extra("data", needed_by="a data set of the hub", module="datasets") from error
    try:
        yield datasets
    except UserError:
        raise
    except exceptions.DatasetNotFoundError as error:
        raise DataError.of(
            "the hub has no such data set, or it is private",
            given=reference,
            fix="Check the spelling (org/name); for a private one set HF_TOKEN",
        ) from error
    except ConnectionError as error:
        raise DataError.of(
            "the hub could not be reached, and the data set is not in the cache",
            given=reference,
            fix="Check the network, or give a local file or a packaged data set",
        ) from error
    except (exceptions.DatasetsError, pyarrow.ArrowException, OSError, ValueError, RuntimeError) as error:
        raise DataError.of(f"the data set cannot be read: {error.__cause__ or error}", given=reference) from error
