"""How do layers of keys and values become a config, with every mistake found at once?

chz stops at its first error, so each key is tried on its own first; then the object is built once. No value
names code: a field is a number, a string, a truth value, or a choice of them.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import chz

from crucible.errors import ConfigError, Problem, did_you_mean

ALIASES: Mapping[str, str] = {
    "num_epochs": "epochs",
    "train_on_what": "train_on",
    "lr": "learning_rate",
    "model_name": "model",
    "renderer_name": "renderer",
}
"""Spellings of the seeds and of other tools, accepted with a note."""


REFERENCE: Mapping[str, bool] = {"may_be_local": True}
"""Metadata of a config field whose value is a name, a hub id, or a path on this machine."""


_WIDEST = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Some keys and where they come from: `command line`, a file's name, `the caller`.

    text: True when the values are text to be read as the field's type.
    """

    origin: str
    values: Mapping[str, object]
    text: bool = False


@dataclass(frozen=True, kw_only=True)
class ConfigField:
    """One key of a config class, for help and for tables.

    may_be_local: its value may name a file or folder of this machine (`REFERENCE` is in the field's metadata).
    """

    name: str
    type: str
    default: object
    help: str
    may_be_local: bool = False


@dataclass(frozen=True, kw_only=True)
class Configured:
    """A built config.

    origins: for every key, the layer that its value came from.
    notes: what the user should be told: old spellings that were accepted.
    """

    value: Any
    preset: str
    origins: Mapping[str, str]
    notes: Sequence[str]

    def to_json(self) -> dict[str, object]:
        """Every key and its value, as JSON data."""
        return config_to_json(self.value)

    def with_values(self, values: Mapping[str, object]) -> "Configured":
        """The same config with some values in another form; where they came from stays."""
        changed: Any = chz.replace(self.value, **values)  # pyright: ignore[reportUnknownMemberType]  (chz leaves it untyped)
        return replace(self, value=changed)


def config_fields(config: type[Any]) -> dict[str, ConfigField]:
    """The config class's keys, in the order written; those that are its own before those of the classes it extends."""
    line = [set(inspect.get_annotations(each)) for each in config.__mro__[::-1]]
    fields = sorted(
        chz.chz_fields(config).items(), key=lambda item: -min(n for n, own in enumerate(line) if item[0] in own)
    )
    return {
        name: ConfigField(
            name=name,
            type=_type_text(field.final_type),
            default=field._default,  # pyright: ignore[reportPrivateUsage]  (chz has no public reader)
            help=field._doc,  # pyright: ignore[reportPrivateUsage]  (chz gives it no public name)
            may_be_local=bool((field.metadata or {}).get("may_be_local")),
        )
        for name, field in fields
    }


def config_to_json(value: Any) -> dict[str, object]:
    """Every key and its value, as JSON data; `config_from_json` gives the config back."""
    values: dict[str, object] = dict(chz.beta_to_blueprint_values(value))  # pyright: ignore[reportUnknownMemberType]  (chz leaves it untyped)
    return values


def config_from_json(config: type[Any], values: Mapping[str, object]) -> Any:
    """The config that `config_to_json` wrote.

    Raises:
        ConfigError: if a key is unknown or a value does not fit.
    """
    return build_config(config, [Layer(origin="config.json", values=values)]).value


def build_config(
    config: type[Any],
    layers: Iterable[Layer],
    *,
    presets: Mapping[str, Mapping[str, object]] | None = None,
    preset: str = "",
    validate: Callable[[Any], Iterable[Problem]] | None = None,
) -> Configured:
    """Merge the layers, later ones winning, and build the config.

    The key `preset` in a layer chooses the preset; an empty one is refused.

    Raises:
        ConfigError: with every unknown key, every value that does not fit, every validator that objects.
    """
    layers = list(layers)
    problems: list[Problem] = []
    notes: list[str] = []
    known_presets = presets or {}
    for layer in layers:
        preset = str(layer.values.get("preset", preset))
        if "preset" in layer.values and not preset:
            hint = did_you_mean(preset, known_presets)
            problems.append(Problem(what="is empty", where="preset", given=f"'' from {layer.origin}", fix=hint))
    if preset and preset not in known_presets:
        hint = did_you_mean(preset, known_presets)
        problems.append(Problem(what=f"there is no preset {preset!r}", where="preset", fix=hint))
    chosen = Layer(origin=f"preset {preset}", values=known_presets.get(preset, {}))

    given: dict[str, tuple[object, Layer]] = {}
    for layer in [chosen, *layers]:
        _take_layer(config, layer, given=given, problems=problems, notes=notes)

    arguments: dict[str, object] = {}
    for key, (value, layer) in given.items():
        argument = chz.Castable(str(value)) if layer.text or isinstance(value, str) else value
        problem = _try_alone(config, key, argument, shown=value, origin=layer.origin)
        if problem is None:
            arguments[key] = argument
        else:
            problems.append(problem)
    value = _build(config, arguments, problems=problems)
    if value is not None and validate is not None:
        problems.extend(validate(value))
    if problems:
        raise ConfigError(problems)
    origins = {key: given[key][1].origin if key in given else "default" for key in config_fields(config)}
    return Configured(value=value, preset=preset, origins=origins, notes=notes)


def _take_layer(
    config: type[Any],
    layer: Layer,
    *,
    given: dict[str, tuple[object, Layer]],
    problems: list[Problem],
    notes: list[str],
) -> None:
    known = config_fields(config)
    for key, value in layer.values.items():
        name = key
        if key == "preset":
            continue
        if key not in known and ALIASES.get(key) in known:
            name = ALIASES[key]
            notes.append(f"{key} is the old name of {name} ({layer.origin}); it is accepted for now")
            if name in layer.values:
                problems.append(Problem(what=f"{key} and {name} are the same key, give one", where=key))
        if name in known:
            given[name] = (value, layer)
        else:
            hint = did_you_mean(key, [*known, "preset"])
            problems.append(Problem(what=f"unknown key {key!r}", where=layer.origin, fix=hint))


def _try_alone(config: type[Any], key: str, argument: object, *, shown: object, origin: str) -> Problem | None:
    """Build the config with this one key, so that one key's mistake never hides another's."""
    field = chz.chz_fields(config)[key]
    wanted = _type_text(field.final_type)
    if isinstance(argument, chz.Castable) and ":" in argument.value and "str" not in wanted and "'" not in wanted:
        # chz reads `module:name` as code to import; no value of ours is code.
        return Problem(what=f"is not {_article(wanted)}", where=key, given=f"{shown!r} from {origin}")
    if isinstance(argument, bool) and "bool" not in wanted:  # Python's truth values are integers; a file's are not
        return Problem(what=f"is not {_article(wanted)}", where=key, given=f"{shown!r} from {origin}")
    try:
        number: object = getattr(chz.Blueprint(config).apply({key: argument}).make(), key)
    except ValueError as error:
        return Problem(what=_plain(error, key), where=key, given=f"{shown!r} from {origin}")
    except Exception:  # noqa: BLE001  (chz raises its own kinds for casts; each means: not this type)
        return Problem(what=f"is not {_article(wanted)}", where=key, given=f"{shown!r} from {origin}")
    if isinstance(number, int) and not -_WIDEST - 1 <= number <= _WIDEST:
        what = f"is a whole number beyond 64 bits, which end at {_WIDEST}"
        return Problem(what=what, where=key, given=f"{shown!r} from {origin}")
    return None


def _build(config: type[Any], arguments: Mapping[str, object], *, problems: list[Problem]) -> Any | None:
    try:
        return chz.Blueprint(config).apply(dict(arguments)).make()
    except ValueError as error:
        # A validator over several keys: it objects only now that they are together.
        problems.append(Problem(what=str(error)))
        return None


def _plain(error: ValueError, key: str) -> str:
    """chz's own validators say `Expected X_key to be ...`; a person knows the key without the X_."""
    text = str(error).replace(f"X_{key}", key)
    prefix = f"Expected {key} to be "
    if text.startswith(prefix):
        text = "must be " + text.removeprefix(prefix).split(", got")[0]
    return text


def _type_text(annotation: object) -> str:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return text.replace("typing.", "")


def _article(wanted: str) -> str:
    return f"one of {wanted.removeprefix('Literal')}" if wanted.startswith("Literal") else f"a value of type {wanted}"
