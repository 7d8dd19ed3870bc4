"""How is a recipe run, from Python? The one entry point: everything else is reached through it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crucible.errors import ConfigError, UnsupportedError, WorkflowError
from crucible.framework import Run, RunResult, Workflow, check, execute, lift, lower, optional_ports, required_ports
from crucible.ir import Experiment
from crucible.kitchen.config import Configured, Layer
from crucible.kitchen.recipe import Recipe
from crucible.kitchen.registry import find_recipe, gather_recipes, gather_stages
from crucible.kitchen.stages import STAGES
from crucible.runtime import run_folder
from crucible.runtime.blocking import block_on
from crucible.runtime.manifests import find_manifest
from crucible.runtime.wiring import Override, Wiring
from crucible.telemetry import Bus, Event, default_bus
from crucible.telemetry.console import Console
from crucible.telemetry.jsonl import Jsonl


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that has been resolved and checked, and has touched nothing: what `dry_run` returns.

    ports: port name to the name of the adapter behind it. origins: where each config value came from.
    """

    experiment: Experiment
    workflow: Workflow
    wiring: Wiring
    origins: Mapping[str, str]
    notes: Sequence[str]

    @property
    def ports(self) -> dict[str, str]:
        """Port name to adapter name."""
        return self.wiring.names


def recipes() -> dict[str, Recipe]:
    """Name to recipe: the cookbook's and those of installed plug-ins."""
    from crucible.cookbook import RECIPES

    return gather_recipes(RECIPES)


def describe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ConfigError: if there is none.
    """
    return find_recipe(name, recipes())


def configure(
    name: str | Recipe, config: Mapping[str, object] | Sequence[Layer] | None = None, *, preset: str | None = None
) -> Configured:
    """The config that the recipe would run with, and where each value came from.

    Raises:
        ConfigError: with every problem.
    """
    recipe = name if isinstance(name, Recipe) else describe(name)
    return recipe.configure(*_layers(config), preset=preset)


def validate(name: str | Recipe, config: Mapping[str, object] | Sequence[Layer] | None = None) -> list[str]:
    """Every problem of a config and of the workflow it gives, as sentences; empty when there is none."""
    recipe = name if isinstance(name, Recipe) else describe(name)
    try:
        built = configure(recipe, config)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return [str(problem) for problem in check(recipe.workflow(built.value))]


def build_spec(
    name: str | Recipe, config: Mapping[str, object] | Sequence[Layer] | None = None, *, preset: str | None = None
) -> Experiment:
    """The experiment that the recipe makes of a config: plain data, all that `run_spec` needs.

    Raises:
        ConfigError: with every problem.
    """
    recipe = name if isinstance(name, Recipe) else describe(name)
    return _experiment(recipe, recipe.configure(*_layers(config), preset=preset))


def build_ports(
    manifest: str | None = None,
    overrides: Mapping[str, Override] | None = None,
    *,
    options: Mapping[str, Mapping[str, object]] | None = None,
    run_dir: Path | None = None,
) -> Wiring:
    """The ports of a manifest, with overrides: defaults < manifest < overrides.

    Raises:
        ManifestError: with every problem.
    """
    return Wiring(find_manifest(manifest or "default"), overrides=overrides, options=options, run_dir=run_dir)


def prepare(
    recipe_or_workflow: "str | Recipe | Workflow | Experiment",
    config: Mapping[str, object] | Sequence[Layer] | None = None,
    *,
    manifest: str | None = None,
    adapters: Mapping[str, Override] | None = None,
    options: Mapping[str, Mapping[str, object]] | None = None,
    run_dir: Path | None = None,
    preset: str | None = None,
) -> Prepared:
    """Resolve config, workflow and ports, and check them together; touches nothing.

    Raises:
        UserError: with every problem of the part that failed first: config, then manifest, then workflow.
    """
    origins: Mapping[str, str] = {}
    notes: Sequence[str] = ()
    if isinstance(recipe_or_workflow, Workflow):
        workflow = recipe_or_workflow
        experiment = lower(workflow, id=workflow.name, config=dict(_merged(config)))
    elif isinstance(recipe_or_workflow, Experiment):
        experiment = recipe_or_workflow
        workflow = lift(experiment, gather_stages(STAGES))
    else:
        recipe = describe(recipe_or_workflow) if isinstance(recipe_or_workflow, str) else recipe_or_workflow
        built = recipe.configure(*_layers(config), preset=preset)
        origins, notes = built.origins, built.notes
        workflow = recipe.workflow(built.value)
        experiment = _experiment(recipe, built)
    wiring = build_ports(manifest, adapters, options=options, run_dir=run_dir)
    problems = check(workflow)
    if problems:
        raise WorkflowError(problems)
    return Prepared(experiment=experiment, workflow=workflow, wiring=wiring, origins=origins, notes=notes)


async def arun(
    recipe_or_workflow: "str | Recipe | Workflow | Experiment",
    config: Mapping[str, object] | Sequence[Layer] | None = None,
    *,
    manifest: str | None = None,
    adapters: Mapping[str, Override] | None = None,
    options: Mapping[str, Mapping[str, object]] | None = None,
    run_dir: Path | str | None = None,
    preset: str | None = None,
    dry_run: bool = False,
    verbose: bool = False,
    resume: str = "auto",
) -> "RunResult | Prepared":
    """Run a recipe, a workflow or an experiment.

    config: values by key, or layers of them. manifest: a name. adapters: what stands behind single ports.
    options: by adapter name. run_dir: a new folder; by default one below `runs/` is made. dry_run: resolve
    and check only, and return that. verbose: show progress on the terminal.

    Raises:
        UserError: if anything the user gave is wrong, before any side effect where that can be known.
        PortError: if a backend fails.
    """
    folder = Path(run_dir).expanduser() if run_dir is not None else fresh_folder(recipe_or_workflow)
    folder = folder if folder.name else folder.resolve()  # the folder's name is the run's id, also for "."
    prepared = prepare(
        recipe_or_workflow,
        config,
        manifest=manifest,
        adapters=adapters,
        options=options,
        run_dir=folder,
        preset=preset,
    )
    if dry_run:
        return prepared
    try:
        return await _execute(prepared, folder, resume=resume, verbose=verbose)
    finally:
        await asyncio.to_thread(prepared.wiring.close)


async def _execute(prepared: Prepared, folder: Path, *, resume: str, verbose: bool) -> RunResult:
    experiment, workflow = prepared.experiment, prepared.workflow
    needed = tuple(port.port_name for port in (*required_ports(workflow), *optional_ports(workflow)))
    ports = prepared.wiring.ports((*needed, "metrics_store"))
    run_folder.claim(folder, resume=resume)
    run_folder.write_inputs(folder, experiment, origins=prepared.origins)
    run = Run(
        run_id=folder.name,
        recipe=experiment.id,
        workflow=workflow.name,
        config=experiment.config or {},
        run_dir=folder,
    )
    # A bus of its own: runs that go on beside each other, even under one name, never share a file.
    bus = Bus()
    watchers = [Jsonl(folder / "events.jsonl"), *([Console()] if verbose else [])]
    for number, watcher in enumerate(watchers):
        bus.attach(f"watcher-{number}", "*", watcher)
    bus.attach("process", "*", _pass_on)
    try:
        result = await execute(workflow, run, ports=ports, telemetry=bus)
        run_folder.write_summary(folder, result)
        return result
    except BaseException as error:
        interrupted = isinstance(error, (asyncio.CancelledError, KeyboardInterrupt))
        run_folder.write_failure(folder, run, error, status="interrupted" if interrupted else "failed")
        raise
    finally:
        for watcher in watchers:
            watcher.close()


def _pass_on(event: Event) -> None:
    """Tell the handlers that were attached for the whole process."""
    default_bus().emit(event.name, event.measurements, event.metadata)


def run(
    recipe_or_workflow: "str | Recipe | Workflow | Experiment",
    config: Mapping[str, object] | Sequence[Layer] | None = None,
    **options: Any,
) -> "RunResult | Prepared":
    """`arun`, from ordinary code; it also works where an event loop is running already (a notebook)."""
    return block_on(arun(recipe_or_workflow, config, **options))


def train(
    recipe_or_workflow: "str | Recipe | Workflow", config: Mapping[str, object] | None = None, **options: Any
) -> "RunResult | Prepared":
    """`run`, by the name that training-only code expects."""
    return run(recipe_or_workflow, config, **options)


def eval(  # noqa: A001  (the facade's fixed name; nobody means the builtin here)
    name: str | Recipe,
    config: Mapping[str, object] | Sequence[Layer] | None = None,
    *,
    checkpoint: str = "",
    **options: Any,
) -> "RunResult | Prepared":
    """Measure the recipe's base model, or a checkpoint's weights, on the recipe's held-out rows.

    Raises:
        UnsupportedError: if the recipe says nothing about evaluation.
    """
    recipe = name if isinstance(name, Recipe) else describe(name)
    if recipe.evaluation is None:
        raise UnsupportedError.of(f"the recipe {recipe.name} has no evaluation of its own")
    built = recipe.configure(*_layers(config))
    workflow = recipe.evaluation(built.value, checkpoint)
    experiment = lower(workflow, id=f"{recipe.name}-evaluation", config=built.to_json())
    return run(experiment, **options)


def run_spec(experiment: Experiment, **options: Any) -> "RunResult | Prepared":
    """Run an experiment that is plain data, for example read back from `experiment.json`.

    Raises:
        SpecError: if it names a stage that does not exist here, with every problem.
    """
    return run(experiment, **options)


def _experiment(recipe: Recipe, built: Configured) -> Experiment:
    return lower(
        recipe.workflow(built.value),
        id=recipe.name,
        config=built.to_json(),
        metadata={"preset": built.preset},
    )


def _layers(config: Mapping[str, object] | Sequence[Layer] | None) -> Sequence[Layer]:
    if config is None:
        return ()
    if isinstance(config, Mapping):
        return (Layer(origin="the caller", values=config),)
    return config


def _merged(config: Mapping[str, object] | Sequence[Layer] | None) -> dict[str, object]:
    return {key: value for layer in _layers(config) for key, value in layer.values.items()}


def fresh_folder(recipe_or_workflow: "str | Recipe | Workflow | Experiment") -> Path:
    """A folder below `runs/` that no other run has; it is not made."""
    name = recipe_or_workflow if isinstance(recipe_or_workflow, str) else recipe_or_workflow.name
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    return Path("runs") / f"{name}-{stamp}"


__all__ = [
    "Prepared",
    "arun",
    "build_ports",
    "build_spec",
    "configure",
    "describe",
    "eval",
    "fresh_folder",
    "prepare",
    "recipes",
    "run",
    "run_spec",
    "train",
    "validate",
]
