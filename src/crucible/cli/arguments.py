"""How do words of a command line become layers of a config, options and adapters?"""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from crucible.errors import ConfigError, Problem
from crucible.kitchen.config import Layer

RecipeName = Annotated[str, typer.Argument(help="A recipe's name; `crucible recipes` lists them.", metavar="RECIPE")]
Values = Annotated[
    list[str] | None,
    typer.Argument(help="Config values; `crucible describe RECIPE` lists the keys.", metavar="KEY=VALUE..."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="Read config values from a TOML or JSON file.", metavar="FILE")
]
ManifestName = Annotated[
    str,
    typer.Option(
        "--manifest",
        "-m",
        help="Which backend and stores to use: default, local, tinker, dev, prod, test, or one of crucible.toml.",
    ),
]
OwnManifestName = Annotated[
    str | None,
    typer.Option("--manifest", "-m", help="Which backend to use; the one that it was run with if left out."),
]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", help="An adapter's option, as ADAPTER.KEY=VALUE, for example torch.dtype=bfloat16."),
]
Adapters = Annotated[
    list[str] | None,
    typer.Option("--adapter", "-a", help="Override one port's adapter, as PORT=NAME, for example metrics_store=noop."),
]


AllowChange = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-change",
        help="When continuing: a key that may differ from when the run began, such as learning_rate or "
        "environment.torch. May be repeated.",
        metavar="KEY",
    ),
]
Telemetry = Annotated[
    list[str] | None,
    typer.Option(
        "--telemetry",
        help="Also watch by: prometheus[:[ADDRESS:]PORT], otel, trace (a Perfetto file in the run's folder) or "
        "durations (a table at the end). May be repeated.",
        metavar="SPEC",
    ),
]
CONTINUE = "continue with: crucible resume"
"""How a stopped run says what to type next."""


def config_layers(values: Sequence[str] | None, file: Path | None) -> list[Layer]:
    """The file's layer, then the command line's.

    Raises:
        ConfigError: for a word that is no `key=value`, or a file that cannot be read.
    """
    layers: list[Layer] = []
    if file is not None:
        layers.append(Layer(origin=str(file), values=_read(file)))
    layers.append(Layer(origin="command line", values=_pairs(values or [], form="key=value"), text=True))
    return layers


def adapter_options(words: Sequence[str] | None) -> dict[str, dict[str, object]]:
    """`torch.dtype=bfloat16` as `{"torch": {"dtype": "bfloat16"}}`; numbers and truth values become such.

    Raises:
        ConfigError: for a word of another form.
    """
    options: dict[str, dict[str, object]] = {}
    for key, value in _pairs(words or [], form="ADAPTER.KEY=VALUE").items():
        adapter, dot, name = key.partition(".")
        if not dot or not name:
            raise ConfigError.of("must have the form ADAPTER.KEY=VALUE", where="--option", given=f"{key}={value}")
        options.setdefault(adapter, {})[name] = _scalar(value)
    return options


def adapter_overrides(words: Sequence[str] | None) -> dict[str, Any]:
    """`metrics_store=noop` as `{"metrics_store": "noop"}`.

    Raises:
        ConfigError: for a word of another form.
    """
    return dict(_pairs(words or [], form="PORT=NAME"))


def _pairs(words: Sequence[str], *, form: str) -> dict[str, str]:
    problems: list[Problem] = []
    pairs: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            problems.append(Problem(what=f"is not of the form {form}", where="command line", given=word))
        elif key in pairs:
            problems.append(Problem(what=f"{key} is given twice", where="command line", given=word))
        else:
            pairs[key] = value
    if problems:
        raise ConfigError(problems)
    return pairs


def _scalar(text: str) -> object:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value if isinstance(value, int | float | bool) else text


def _read(file: Path) -> dict[str, object]:
    try:
        text = file.read_text(encoding="utf-8")
        document = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError.of(f"cannot be read: {error.strerror}", where=str(file)) from error
    except (UnicodeDecodeError, json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        kind = "JSON" if file.suffix == ".json" else "TOML"
        raise ConfigError.of(f"is not valid {kind}: {error}", where=str(file)) from error
    if not isinstance(document, dict):
        raise ConfigError.of("must hold keys and values at its top level", where=str(file))
    # A run's own config.json has the origin beside each value.
    values = cast(dict[str, Any], document)
    return {key: value["value"] if _has_origin(value) else value for key, value in values.items()}


def _has_origin(value: Any) -> bool:
    return isinstance(value, dict) and set(cast(dict[str, Any], value)) == {"value", "origin"}
