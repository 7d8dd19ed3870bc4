"""Which environment does a name mean? A built-in one, one of a plug-in, or one of the user's own program."""

import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeAlias, cast

from crucible.errors import ConfigError, MissingExtraError, Problem, did_you_mean
from crucible.train.rl.environments.arithmetic import ARITHMETIC
from crucible.train.rl.environments.code_rows import CODE
from crucible.train.rl.environments.environment import Environment, EnvironmentRequest, Option
from crucible.train.rl.environments.guess_number import GUESS_NUMBER
from crucible.train.rl.environments.letters import LETTERS
from crucible.train.rl.environments.math_rows import GSM8K, MATH
from crucible.train.rl.environments.options import option_problems, with_defaults
from crucible.train.rl.environments.reasoning_gym_tasks import REASONING_GYM
from crucible.train.rl.environments.textarena_games import TEXTARENA
from crucible.train.rl.types import RLDataset

PLUGIN_GROUP = "crucible.environments"
"""Entry points of this group add environments: the name is the environment's, the object an `Environment`, or a
function that takes an `EnvironmentRequest` and gives an `RLDataset`. A built-in name cannot be taken over."""

Factory: TypeAlias = Callable[[EnvironmentRequest], RLDataset]

ENVIRONMENTS: Mapping[str, Environment] = {
    environment.name: environment
    for environment in (ARITHMETIC, LETTERS, GSM8K, MATH, CODE, GUESS_NUMBER, REASONING_GYM, TEXTARENA)
}
"""Every built-in environment by name."""

_registered: dict[str, Environment] = {}

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def register_environment(name: str, factory: Factory | Environment, *, description: str = "") -> None:
    """Add an environment of the user's own program under `name`; registering it again replaces it.

    factory: a function from an `EnvironmentRequest` to an `RLDataset` takes whatever `env_options` it is given; an
    `Environment` says what it takes, and what else a plan may know of it.

    It is known in this process alone. A run that is to be continued from the command line needs an entry point of the
    group `crucible.environments` instead.

    Raises:
        ConfigError: if a built-in environment has that name, or it is no plain lower-case word.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError.of("an environment's name is a plain lower-case word", where="env", given=name)
    if name in ENVIRONMENTS:
        raise ConfigError.of("a built-in environment has that name", where="env", given=name, fix="Choose another")
    _registered[name] = _as_environment(name, factory, description=description or f"{name}, of the user's own program")


def environment_names() -> list[str]:
    """Every name that `load_environment` knows, sorted."""
    return sorted({*ENVIRONMENTS, *_registered, *_plugins()})


def find_environment(spec: str) -> tuple[Environment, str]:
    """The environment that `name` or `name:variant` means, and its variant ("" where it has none).

    Raises:
        ConfigError: if there is none of that name or variant.
        MissingExtraError: if it needs a package that is not installed.
    """
    name, _, variant = spec.partition(":")
    environment = ENVIRONMENTS.get(name) or _registered.get(name)
    if environment is None:
        plugins = _plugins()
        if name not in plugins:
            known = environment_names()
            raise ConfigError.of("there is no such environment", where="env", given=spec, fix=did_you_mean(name, known))
        environment = _from_plugin(plugins[name])
    if environment.module and importlib.util.find_spec(environment.module) is None:
        needed_by = f"The environment {name}"
        raise MissingExtraError.for_extra(environment.extra, needed_by=needed_by, module=environment.module)
    return environment, _variant(environment, variant, spec)


def environment_options(spec: str) -> Mapping[str, Option]:
    """What `env_options` may hold for that environment.

    Raises:
        ConfigError, MissingExtraError: as `find_environment`.
    """
    environment, variant = find_environment(spec)
    own: Mapping[str, Option] = {} if environment.list_options is None else environment.list_options(variant)
    return {**own, **environment.options}


def environment_problems(spec: str, options: Mapping[str, Any] | None = None) -> Iterator[Problem]:
    """What `load_environment` would refuse whatever the tokenizer and the data: for plans, before anything costs."""
    given = options or {}
    try:
        environment, variant = find_environment(spec)
    except (ConfigError, MissingExtraError) as error:
        yield from (replace(problem, where=problem.where or "env") for problem in error.problems)
        return
    known = environment_options(spec)
    wrong = [] if environment.any_options else list(option_problems(known, given, of=spec))
    yield from wrong
    if not wrong and environment.check is not None:
        yield from environment.check(variant, with_defaults(known, given))


def load_environment(spec: str, request: EnvironmentRequest) -> RLDataset:
    """The problems of the environment that `name` or `name:variant` means.

    Raises:
        ConfigError: if there is no such environment or variant, an option is unknown or out of range, or it needs a
            renderer or a dataset store that the request has not; all problems at once.
        MissingExtraError: if it needs a package that is not installed.
        DataError: if its rows cannot be read, or none are left.
    """
    environment, variant = find_environment(spec)
    problems = [*environment_problems(spec, request.options), *_request_problems(environment, request)]
    if problems:
        raise ConfigError(problems)
    options = {**request.options, **with_defaults(environment_options(spec), request.options)}
    dataset = environment.load(variant, replace(request, options=options))
    given = cast(object, dataset)  # a user's factory may give anything
    if not isinstance(given, RLDataset):
        what = f"the environment gives no RLDataset, but a {type(given).__name__}"
        raise ConfigError.of(what, where="env", given=spec)
    return dataset


def _request_problems(environment: Environment, request: EnvironmentRequest) -> Iterator[Problem]:
    if request.group_size < 1:
        yield Problem(what="must be at least 1", where="group_size", given=str(request.group_size))
    if request.groups_per_batch < 1:
        yield Problem(what="must be at least 1", where="groups_per_batch", given=str(request.groups_per_batch))
    if request.rows is not None and request.rows < 1:
        yield Problem(what="must be at least 1, or None for all", where="rows", given=str(request.rows))
    if environment.needs_renderer and request.renderer is None:
        what = "it talks in messages, and no renderer was given"
        yield Problem(what=what, where="env", given=environment.name, fix="Give renderer=auto, or a renderer's name")
    if environment.needs_rows and request.datasets is None:
        what = "its problems are rows, and no dataset store was given"
        yield Problem(what=what, where="env", given=environment.name, fix="Name a dataset_store in the manifest")


def _variant(environment: Environment, variant: str, spec: str) -> str:
    known: Sequence[str] = environment.variants
    if environment.list_variants is not None:
        known = environment.list_variants()
        if not variant:
            example = f"Write {environment.name}:{environment.example}"
            raise ConfigError.of("it takes the name of a task after a colon", where="env", given=spec, fix=example)
    if variant in known:
        return variant
    if variant and not known:
        what, fix = "this environment has no variants", f"Write {environment.name}"
        raise ConfigError.of(what, where="env", given=spec, fix=fix)
    if variant:
        what = f"{environment.name} has no such variant"
        raise ConfigError.of(what, where="env", given=spec, fix=did_you_mean(variant, known))
    return known[0] if known else ""


def _plugins() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=PLUGIN_GROUP) if entry.name not in ENVIRONMENTS}


def _from_plugin(entry: EntryPoint) -> Environment:
    try:
        loaded: object = entry.load()
    except Exception as error:
        what = f"the environment's plug-in cannot be loaded: {error}"
        raise ConfigError.of(what, where="env", given=entry.value) from error
    if not callable(loaded) and not isinstance(loaded, Environment):
        raise ConfigError.of("the plug-in is no environment and no function", where="env", given=entry.value)
    factory = cast("Factory | Environment", loaded)
    return _as_environment(entry.name, factory, description=f"{entry.name}, of the plug-in {entry.value}")


def _as_environment(name: str, factory: Factory | Environment, *, description: str) -> Environment:
    if isinstance(factory, Environment):
        return replace(factory, name=name)

    def load(variant: str, request: EnvironmentRequest) -> RLDataset:
        del variant
        return factory(request)

    return Environment(name=name, description=description, load=load, any_options=True)
