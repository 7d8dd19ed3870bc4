"""How is a prepared run carried out in its folder, from its beginning or from where it stopped?"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crucible.adapters.assets import crucible_home
from crucible.errors import ResumeError
from crucible.framework import (
    History,
    Journal,
    Run,
    RunResult,
    RunStopped,
    Stop,
    execute,
    optional_ports,
    read_history,
    repair,
    required_ports,
)
from crucible.ir import Experiment, to_json
from crucible.ports import MetricsStore, TrainingClient
from crucible.runtime import run_folder
from crucible.runtime.prepared import Prepared
from crucible.runtime.run_changes import environment, facts_of, require_unchanged
from crucible.runtime.run_recorder import RunRecorder
from crucible.telemetry import Bus, Event, default_bus
from crucible.telemetry.console import Console
from crucible.telemetry.jsonl import Jsonl


async def carry_out(prepared: Prepared, going: "Going", *, verbose: bool, stop: Stop | None) -> RunResult:
    """Run it in its folder, which this process holds; records, summary and failures land there."""
    experiment, workflow, folder = prepared.experiment, prepared.workflow, going.folder
    needed = tuple(port.port_name for port in (*required_ports(workflow), *optional_ports(workflow)))
    ports = prepared.wiring.ports((*needed, "metrics_store"))
    training, store = ports.get(TrainingClient.port_name), ports["metrics_store"]
    assert training is None or isinstance(training, TrainingClient)
    assert isinstance(store, MetricsStore)
    facts = {
        **going.facts,
        "environment": await asyncio.to_thread(environment, training),
        "experiment": hashlib.sha256(to_json(experiment)).hexdigest(),
    }
    history = going.history(facts, experiment)
    run_folder.reopen(folder)
    run = Run(
        run_id=folder.name,
        recipe=experiment.id,
        workflow=workflow.name,
        config=experiment.config or {},
        run_dir=folder,
        cache_dir=crucible_home() / "cache" / "stages",
    )
    journal = Journal(run_id=run.run_id, run_dir=folder, store=store)
    journal.note("start", at=run.started_at.isoformat(), **facts)
    if going.stored is None or going.changed or not (folder / "config.json").exists():
        run_folder.write_inputs(folder, experiment, origins=prepared.origins)
    # A bus of its own: runs that go on beside each other, even under one name, never share a file.
    bus = Bus()
    watchers = [Jsonl(folder / "events.jsonl"), RunRecorder(folder), *([Console()] if verbose else [])]
    for number, watcher in enumerate(watchers):
        bus.attach(f"watcher-{number}", "*", watcher)
    bus.attach("process", "*", _pass_on)
    try:
        result = await execute(workflow, run, ports=ports, telemetry=bus, journal=journal, history=history, stop=stop)
        run_folder.write_summary(folder, result)
        return result
    except BaseException as error:
        interrupted = isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, RunStopped))
        run_folder.write_failure(folder, run, error, status="interrupted" if interrupted else "failed")
        raise
    finally:
        for watcher in watchers:
            watcher.close()


@dataclass(kw_only=True)
class Going:
    """A run that is about to begin or to go on in its folder.

    facts: its manifest, adapters and options. stored: the experiment of the run that is there; None for a fresh one.
    """

    folder: Path = field(kw_only=False)
    facts: Mapping[str, Any]
    stored: Experiment | None
    allowed: tuple[str, ...]
    changed: bool = False

    def history(self, facts: Mapping[str, Any], experiment: Experiment) -> History | None:
        """Where to go on; None to begin.

        Raises:
            ResumeError: if something is different from when the run began, and that was not allowed.
        """
        if self.stored is None:
            return None
        history = read_history(self.folder)
        stored = hashlib.sha256(to_json(self.stored)).hexdigest()
        if history.experiments and stored not in history.experiments:
            raise ResumeError.of(
                "experiment.json is not the one that the run was started with",
                where=str(self.folder / "experiment.json"),
                fix="Restore it, or start a new run",
            )
        before = facts_of(history.facts, self.stored) if history.facts else facts_of(facts, self.stored)
        now = facts_of(facts, experiment)
        self.changed = require_unchanged(before, now, stored=self.stored, given=experiment, allowed=self.allowed)
        repair(self.folder)
        run_folder.sweep(self.folder)
        return history


def _pass_on(event: Event) -> None:
    """Tell the handlers that were attached for the whole process."""
    default_bus().emit(event.name, event.measurements, event.metadata)
