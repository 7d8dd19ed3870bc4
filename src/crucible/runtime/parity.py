"""Is a run about to do what another one did? Its config, its data and the tokens of its first batch, on record.

A record is a folder of three JSON files, the same bytes each time: `config.json` (every value and its origin),
`data.json` (a hash of the rows), `first_batch.json` (every token with its loss weight, and a hash of them all).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from crucible.errors import ConfigError, DataError
from crucible.framework import write_atomically
from crucible.kitchen.config import Layer
from crucible.kitchen.materials import Materials, gather
from crucible.ports import DatasetStore, TokenizerStore
from crucible.ports.dataset_store import RowSet, RowStream
from crucible.ports.datum import Datum
from crucible.ports.tokenizer import Tokenizer
from crucible.runtime.facade import prepare
from crucible.runtime.wiring import Override

_FILES: Mapping[str, Set[str]] = {
    "config": set(),
    "data": {"train", "heldout"},
    "first_batch": {"renderer", "row_format", "sha256", "datums"},
}
"""The files and the keys that each must have."""
_SHOWN = 8
"""Tokens shown before the first one that differs."""


@dataclass(frozen=True, kw_only=True)
class ParityRecord:
    """What a run would do, as JSON data.

    config: key to `value` and `origin`. data: `train` and `heldout`, each with `name`, `rows` (None for a stream) and
    `fingerprint` ("" where the store of a stream has none).
    first_batch: `renderer`, `row_format`, `sha256`, and `datums`, each with `row`, `origin`, `tokens`, `weights` (of
    the token at the same place) and `texts`.
    """

    config: Mapping[str, Any]
    data: Mapping[str, Any]
    first_batch: Mapping[str, Any]


def parity_record(
    name: str,
    config: Mapping[str, object] | Sequence[Layer] | None = None,
    *,
    manifest: str | None = None,
    adapters: Mapping[str, Override] | None = None,
    options: Mapping[str, Mapping[str, object]] | None = None,
) -> ParityRecord:
    """The record of what this run would do. Reads the data and the tokenizer; makes no run folder.

    Raises:
        UserError: if anything the user gave is wrong.
    """
    prepared = prepare(name, config, manifest=manifest, adapters=adapters, options=options)
    try:
        datasets, tokenizers = (prepared.wiring.port(port) for port in ("dataset_store", "tokenizer_store"))
        assert isinstance(datasets, DatasetStore)
        assert isinstance(tokenizers, TokenizerStore)
        materials = gather(prepared.workflow, datasets=datasets, tokenizers=tokenizers)
        values = prepared.experiment.config or {}
        return ParityRecord(
            config={key: {"value": value, "origin": prepared.origins.get(key, "")} for key, value in values.items()},
            data={"train": _snapshot(materials.rows), "heldout": _snapshot(materials.heldout_rows)},
            first_batch=_first_batch(materials),
        )
    finally:
        prepared.wiring.close()


def write_record(record: ParityRecord, folder: Path) -> None:
    """Write the three files; the folder is made.

    Raises:
        ConfigError: if it holds a record already, or cannot be made.
    """
    if any(_file(folder, part).exists() for part in _FILES):
        fix = "Compare with --against, give another folder, or delete this one"
        raise ConfigError.of("the folder holds a record already", where=str(folder), fix=fix)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError.of(f"the folder cannot be made: {error.strerror}", where=str(folder)) from error
    for part in _FILES:
        text = json.dumps(getattr(record, part), indent=1, ensure_ascii=False, sort_keys=True)
        write_atomically(_file(folder, part), (text + "\n").encode())


def read_record(folder: Path) -> ParityRecord:
    """The record in a folder.

    Raises:
        ConfigError: if there is none, or a file of it is damaged.
    """
    parts: dict[str, Any] = {}
    for part, keys in _FILES.items():
        file = _file(folder, part)
        try:
            parts[part] = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            fix = "Make one with crucible plan RECIPE ... --record DIR"
            raise ConfigError.of("there is no parity record", where=str(file), fix=fix) from error
        except (OSError, ValueError) as error:
            raise ConfigError.of(f"cannot be read: {error}", where=str(file)) from error
        if not isinstance(parts[part], dict) or not keys <= set(cast("dict[str, Any]", parts[part])):
            raise ConfigError.of("is no part of a parity record", where=str(file))
    return ParityRecord(**parts)


def differences(recorded: ParityRecord, now: ParityRecord) -> list[str]:
    """Every config key, every set of rows, and the first token that differ, each as a sentence; empty if none does.

    Where a value came from and where the files lie is no difference.
    """
    return [
        *_config(recorded.config, now.config),
        *_data(recorded, now),
        *_batch(recorded.first_batch, now.first_batch),
    ]


def _file(folder: Path, part: str) -> Path:
    return folder / f"{part}.json"


def _snapshot(rows: RowSet | RowStream) -> dict[str, Any]:
    count = len(rows) if isinstance(rows, RowSet) else None
    return {"name": rows.name, "rows": count, "fingerprint": rows.fingerprint()}


def _first_batch(materials: Materials) -> dict[str, Any]:
    dataset = materials.dataset
    first = next(iter(dataset.epoch(0)), None)
    if first is None:
        raise DataError.of("the data set has no row", where=materials.rows.name)
    batch = dataset.render(first)
    datums = [
        {"row": row, "origin": materials.rows.origin(row), **_tokens(datum, materials.tokenizer)}
        for row, datum in zip(batch.rows, batch.datums, strict=True)
    ]
    return {
        "renderer": dataset.rendering.renderer.name,
        "row_format": dataset.rendering.row_format,
        "sha256": _hash(datums),
        "datums": datums,
    }


def _tokens(datum: Datum, tokenizer: Tokenizer) -> dict[str, Any]:
    """The whole sequence: the input, and the last target; the first token has no weight, nothing precedes it."""
    targets = [int(token) for token in datum.loss_fn_inputs["target_tokens"].tolist()]  # pyright: ignore[reportArgumentType]  (one dimension)
    tokens = [*datum.model_input.to_ints(), targets[-1]]
    return {
        "tokens": tokens,
        "weights": [0.0, *datum.loss_fn_inputs["weights"].tolist()],
        "texts": [tokenizer.token_text(token) for token in tokens],
    }


def _hash(datums: Iterable[Mapping[str, Any]]) -> str:
    told = [[datum["tokens"], datum["weights"]] for datum in datums]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _config(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*before, *now}):
        was, is_now = (_value(values, key) for values in (before, now))
        if was != is_now:
            yield f"config: {key} was {was} and is {is_now}"


def _value(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]["value"]) if key in values else "not there"


def _data(recorded: ParityRecord, now: ParityRecord) -> Iterator[str]:
    for part, name in (("train", "training rows"), ("heldout", "held-out rows")):
        was, is_now = (cast("Mapping[str, Any]", record.data[part]) for record in (recorded, now))
        if was["rows"] != is_now["rows"]:
            yield f"data: the {name} were {was['rows']} and are {is_now['rows']}"
        elif was["fingerprint"] != is_now["fingerprint"]:
            yield f"data: the {name} are others: their hash was {was['fingerprint'][:12]} and is " + (
                f"{is_now['fingerprint'][:12]}"
            )


def _batch(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in ("renderer", "row_format"):
        if before[key] != now[key]:
            yield f"first batch: the {key.replace('_', ' ')} was {before[key]} and is {now[key]}"
    if before["sha256"] == now["sha256"]:
        return
    for number, (was, is_now) in enumerate(zip(before["datums"], now["datums"], strict=False)):
        told = _datum(was, is_now)
        if told:
            yield f"first batch, datum {number} ({is_now['origin']}): {told}"
            return
    yield f"first batch: it had {len(before['datums'])} datums and has {len(now['datums'])}"


def _datum(was: Mapping[str, Any], is_now: Mapping[str, Any]) -> str:
    """What the first difference of a datum is; "" where there is none."""
    for at, (one, other) in enumerate(zip(was["tokens"], is_now["tokens"], strict=False)):
        if one != other:
            return f"token {at} was {_shown(was, at)} and is {_shown(is_now, at)}, after {_context(is_now, at)}"
        one, other = was["weights"][at], is_now["weights"][at]
        if one != other:
            place = f"the weight of token {at}, {_shown(is_now, at)},"
            return f"{place} was {one:.6g} and is {other:.6g}, after {_context(is_now, at)}"
    lengths = len(was["tokens"]), len(is_now["tokens"])
    if lengths[0] == lengths[1]:
        return ""
    at = min(lengths)
    return f"it had {lengths[0]} tokens and has {lengths[1]}: the same up to {_context(is_now, at)}"


def _shown(datum: Mapping[str, Any], at: int) -> str:
    return f"{datum['texts'][at]!r} ({datum['tokens'][at]})"


def _context(datum: Mapping[str, Any], at: int) -> str:
    return repr("".join(datum["texts"][max(at - _SHOWN, 0) : at]))
