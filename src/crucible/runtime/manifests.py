"""Which adapter stands behind each port, by environment?

A manifest is strings only: port name to adapter name, and options per adapter. The user's own are tables
`[manifests.NAME]` of the nearest `crucible.toml`.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from crucible.errors import ManifestError, Problem, did_you_mean

DEFAULT_PORTS: Mapping[str, str] = {
    "training_client": "torch",
    "sampling_client": "torch",
    "tokenizer_store": "hf",
    "dataset_store": "auto",
    "blob_store": "local",
    "hub_client": "hf",
    "metrics_store": "jsonl",
    "llm_client": "noop",
    "embedding_client": "noop",
    "vector_store": "noop",
}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Adapters by port, and options by adapter. strict: refuse adapters that do no real work."""

    name: str
    ports: Mapping[str, str] = field(default_factory=dict[str, str])
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict[str, Mapping[str, object]])
    strict: bool = False
    origin: str = "built in"


BUILTIN: Mapping[str, Manifest] = {
    "default": Manifest(name="default"),
    "local": Manifest(name="local"),
    "dev": Manifest(name="dev", options={"torch": {"dtype": "float32", "device": "cpu"}}),
    "prod": Manifest(name="prod", strict=True),
    "tinker": Manifest(name="tinker", ports={"training_client": "tinker", "sampling_client": "tinker"}),
    "test": Manifest(name="test", ports=dict.fromkeys(DEFAULT_PORTS, "noop")),
}
"""default and local: the embedded engine on this machine. dev: the same, always float32 on the CPU. prod: the
same, refusing fakes. tinker: a Tinker service, the hosted one or the one at TINKER_BASE_URL. test: a fake behind
every port."""


def find_manifest(name: str, *, start: Path | None = None) -> Manifest:
    """The manifest of that name, the user's own first; `extends` is resolved.

    start: the folder from which `crucible.toml` is looked for, upwards; the current one by default.

    Raises:
        ManifestError: if there is none of that name, or the file is wrong, with every problem found.
    """
    return _find(name, user_manifests(start or Path.cwd()), seen=())


def manifest_names(*, start: Path | None = None) -> list[str]:
    """Every name that `find_manifest` knows, sorted."""
    return sorted({*BUILTIN, *user_manifests(start or Path.cwd())})


def _find(name: str, own: Mapping[str, "_Extended"], *, seen: tuple[str, ...]) -> Manifest:
    if name in seen and name not in BUILTIN:
        raise ManifestError.of(f"manifests extend each other in a circle: {' > '.join([*seen, name])}")
    if name in own:
        mine, parent_name = own[name].manifest, own[name].extends
        parent = _find(parent_name, {k: v for k, v in own.items() if k != name}, seen=(*seen, name))
        adapters = {*parent.options, *mine.options}
        return Manifest(
            name=name,
            ports={**parent.ports, **mine.ports},
            options={key: {**parent.options.get(key, {}), **mine.options.get(key, {})} for key in adapters},
            strict=mine.strict or parent.strict,
            origin=mine.origin,
        )
    if name in BUILTIN:
        return BUILTIN[name]
    raise ManifestError.of(f"there is no manifest {name!r}", fix=did_you_mean(name, {*BUILTIN, *own}))


@dataclass(frozen=True, kw_only=True)
class _Extended:
    manifest: Manifest
    extends: str


def user_manifests(start: Path) -> Mapping[str, _Extended]:
    """The manifests of the nearest `crucible.toml`, from `start` upwards."""
    file = next((p / "crucible.toml" for p in [start, *start.parents] if (p / "crucible.toml").is_file()), None)
    if file is None:
        return {}
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError.of(f"is not valid TOML: {error}", where=str(file)) from error
    problems: list[Problem] = []
    tables = _table(document.get("manifests", {}), where=f"{file} manifests", problems=problems)
    found = {
        name: _read(name, value, where=f"{file} [manifests.{name}]", problems=problems)
        for name, value in tables.items()
    }
    if problems:
        raise ManifestError(problems)
    return found


def _read(name: str, value: object, *, where: str, problems: list[Problem]) -> _Extended:
    table = _table(value, where=where, problems=problems)
    known = {*DEFAULT_PORTS, "extends", "options", "strict"}
    ports: dict[str, str] = {}
    for key, adapter in table.items():
        if key not in known:
            problems.append(Problem(what=f"unknown key {key!r}", where=where, fix=did_you_mean(key, known)))
        elif key in DEFAULT_PORTS and isinstance(adapter, str):
            ports[key] = adapter
        elif key in DEFAULT_PORTS:
            problems.append(Problem(what=f"{key} must be an adapter's name", where=where, given=repr(adapter)))
    strict, extends = table.get("strict", False), table.get("extends", "default")
    if not isinstance(strict, bool):
        problems.append(Problem(what="strict must be true or false", where=where, given=repr(strict)))
    if not isinstance(extends, str):
        problems.append(Problem(what="extends must be a manifest's name", where=where, given=repr(extends)))
    options = {
        adapter: _table(settings, where=f"{where} options.{adapter}", problems=problems)
        for adapter, settings in _table(table.get("options", {}), where=f"{where} options", problems=problems).items()
    }
    manifest = Manifest(name=name, ports=ports, options=options, strict=strict is True, origin=where)
    return _Extended(manifest=manifest, extends=str(extends))


def _table(value: object, *, where: str, problems: list[Problem]) -> dict[str, object]:
    """The value if it is a table; otherwise a problem, and an empty one."""
    if isinstance(value, dict):
        return cast(dict[str, object], value)
    problems.append(Problem(what="must be a table", where=where, given=repr(value)))
    return {}
