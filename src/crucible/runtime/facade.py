"""How is a recipe run, from Python? The one entry point: everything else is reached through it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crucible.errors import ConfigError, Interrupted, ResumeError, UnsupportedError, WorkflowError
from crucible.framework import (
    RunResult,
    RunStopped,
    Stop,
    Workflow,
    check,
    lift,
    lower,
    optional_ports,
    read_history,
    required_ports,
)
from crucible.ir import Experiment, from_json
from crucible.kitchen.config import Configured, Layer
from crucible.kitchen.recipe import Recipe
from crucible.kitchen.registry import find_recipe, gather_recipes, gather_stages
from crucible.kitchen.stages import STAGES
from crucible.runtime import run_folder
from crucible.runtime.blocking import block_on
from crucible.runtime.executing import Going, carry_out
from crucible.runtime.local_paths import anchored
from crucible.runtime.manifests import find_manifest
from crucible.runtime.prepared import Prepared
from crucible.runtime.run_lock import locked
from crucible.runtime.signals import stopped_by_signals
from crucible.runtime.wiring import Override, Wiring


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
    return anchored(recipe.configure(*_layers(config), preset=preset))


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
    return _experiment(recipe, configure(recipe, config, preset=preset))


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
        built = configure(recipe, config, preset=preset)
        origins, notes = built.origins, built.notes
        workflow = recipe.workflow(built.value)
        experiment = _experiment(recipe, built)
    wiring = build_ports(manifest, adapters, options=options, run_dir=run_dir)
    problems = check(workflow)
    if problems:
        raise WorkflowError(problems)
    wiring.verify(port.port_name for port in (*required_ports(workflow), *optional_ports(workflow)))
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
    allow_change: Iterable[str] = (),
    stop: Stop | None = None,
) -> "RunResult | Prepared":
    """Run a recipe, a workflow or an experiment.

    config: values by key, or layers of them. manifest: a name. adapters: what stands behind single ports.
    options: by adapter name. run_dir: the run's folder; by default one below `runs/` is made. dry_run: resolve
    and check only, and return that. verbose: show progress on the terminal.
    resume: what to do where the folder holds an unfinished run: continue it (`auto`), refuse (`never`); `must`
    refuses where there is none. allow_change: keys (of the config, `adapter.PORT`, `option.ADAPTER.KEY`,
    `environment.NAME`, `workflow`) that may differ from when it began. stop: asks the run to stop.

    Raises:
        UserError: if anything the user gave is wrong, before any side effect where that can be known.
        PortError: if a backend fails.
        RunStopped: if `stop` was requested; the run can be continued.
    """
    folder = Path(run_dir).expanduser() if run_dir is not None else fresh_folder(recipe_or_workflow)
    folder = folder if folder.name else folder.resolve()  # the folder's name is the run's id, also for "."
    run_folder.require_mode(resume)
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
    facts = {
        "manifest": manifest or "default",
        "adapters": {port: choice if isinstance(choice, str) else None for port, choice in (adapters or {}).items()},
        "options": prepared.wiring.recordable(options or {}),
        "ports": prepared.ports,
    }
    try:
        run_folder.make(folder)
        with locked(folder):
            stored = run_folder.claim(folder, resume=resume)
            going = Going(folder, facts=facts, stored=stored, allowed=tuple(allow_change))
            try:
                return await carry_out(prepared, going, verbose=verbose, stop=stop)
            finally:
                # While the folder is still ours: adapters may have something left to write there.
                await asyncio.to_thread(prepared.wiring.close)
    finally:
        await asyncio.to_thread(prepared.wiring.close)


def run(
    recipe_or_workflow: "str | Recipe | Workflow | Experiment",
    config: Mapping[str, object] | Sequence[Layer] | None = None,
    **options: Any,
) -> "RunResult | Prepared":
    """`arun`, from ordinary code; it also works where an event loop is running already (a notebook).

    In a program's main thread, the first Ctrl-C or SIGTERM lets the run write a checkpoint and stop, the second
    stops it at once.

    Raises:
        Interrupted: a KeyboardInterrupt that knows the signal, when the run was stopped by one and can be continued.
    """
    stop = options.pop("stop", None) or Stop()
    with stopped_by_signals(stop) as heard:
        try:
            return block_on(arun(recipe_or_workflow, config, stop=stop, **options))
        except RunStopped as stopped:
            raise Interrupted(str(stopped), signum=heard.signum) from stopped


def resume(run_dir: Path | str, *, allow_change: Iterable[str] = (), **options: Any) -> "RunResult | Prepared":
    """Continue the unfinished run of a folder, as it was started.

    options: as for `run`, to give again what a file cannot keep: adapters that were objects.

    Raises:
        ResumeError: if there is nothing to continue, or something is different from when the run began.
    """
    folder = Path(run_dir).expanduser()
    file = folder / "experiment.json"
    if not file.is_file():
        raise ResumeError.of("is no run folder: it has no experiment.json", where=str(run_dir))
    facts = read_history(folder).facts
    if not facts:
        raise ResumeError.of(
            "its journal does not say how it was started",
            where=str(run_dir),
            fix="Give the same `crucible run ...` again with this --run-dir: it begins anew there",
        )
    adapters: dict[str, Any] = {**facts.get("adapters", {}), **options.pop("adapters", {})}
    objects = sorted(port for port, choice in adapters.items() if choice is None)
    if objects:
        raise ResumeError.of(
            "the run was started with an adapter object, which its folder cannot hold",
            where=str(run_dir),
            given=", ".join(objects),
            fix="Continue it from Python: crucible.resume(run_dir, adapters={...})",
        )
    given: dict[str, Any] = {"manifest": facts.get("manifest"), "options": facts.get("options"), **options}
    experiment = from_json(file.read_bytes())
    return run(experiment, adapters=adapters, run_dir=folder, resume="must", allow_change=allow_change, **given)


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
    built = configure(recipe, config)
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
    "resume",
    "run",
    "run_spec",
    "train",
    "validate",
]
