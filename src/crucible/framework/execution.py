"""How does a checked workflow run? Node after node, from its beginning or from where an earlier run of it stopped."""

import time
from collections.abc import Mapping

from crucible.errors import WorkflowError
from crucible.framework.check import check
from crucible.framework.journal import Journal
from crucible.framework.nodes import Workflow
from crucible.framework.result import RunResult
from crucible.framework.resuming import History
from crucible.framework.run import Run
from crucible.framework.runner import Runner
from crucible.framework.stage_runner import told_of
from crucible.framework.stopping import Stop
from crucible.ports import MetricsStore, Port
from crucible.telemetry import Bus, default_bus


async def execute(
    workflow: Workflow,
    run: Run,
    ports: Mapping[str, Port],
    *,
    telemetry: Bus | None = None,
    journal: Journal | None = None,
    history: History | None = None,
    stop: Stop | None = None,
) -> RunResult:
    """Run a workflow to its end.

    ports: adapters by `port_name`. telemetry: the process's own bus if None. journal: None makes one that
    writes to `run.run_dir` and to the run's metrics store. history: what an earlier, unfinished run of the same
    workflow left (`read_history`); this one goes on from its latest whole point. stop: ask it to stop the run.

    Raises:
        WorkflowError: if `check` finds problems, before anything ran; or if a stage breaks its declaration.
        ResumeError: if the run cannot go on: the workflow or its data is another.
        RunStopped: if `stop` was requested.
        BaseException: whatever a stage raised, cancellation included, after `workflow.exception`; notes on it
            say in which stage.
    """
    problems = check(workflow, ports=ports)
    if problems:
        raise WorkflowError(problems)
    bus = telemetry or default_bus()
    if journal is None:
        store = ports.get(MetricsStore.port_name)
        assert store is None or isinstance(store, MetricsStore)
        journal = Journal(run_id=run.run_id, run_dir=run.run_dir, store=store)
    runner = Runner(workflow, run=run, ports=ports, bus=bus, journal=journal, stop=stop or Stop())
    told = {"run_id": run.run_id, "recipe": run.recipe, "workflow": workflow.name}
    started = time.perf_counter_ns()
    bus.emit("workflow.start", {}, told)
    try:
        await runner.whole(history)
        journal.flush()
    except BaseException as error:
        await runner.stages.undo.all(error)
        bus.emit("workflow.exception", {"duration_ns": time.perf_counter_ns() - started}, {**told, **told_of(error)})
        raise
    finally:
        runner.threads.close()
        journal.close()
    duration = time.perf_counter_ns() - started
    bus.emit("workflow.stop", {"duration_ns": duration}, told)
    completed = {stage: count for stage, count in journal.completed.items() if count}
    return RunResult(
        recipe=run.recipe,
        workflow=workflow.name,
        config=run.config,
        run_id=run.run_id,
        run_dir=run.run_dir,
        state=runner.state.values(),
        metrics=journal.metrics,
        artifacts=journal.artifacts,
        results=journal.results,
        checkpoints=journal.checkpoints,
        completed_stages=list(completed),
        stage_counts=completed,
        started_at=run.started_at,
        duration=duration / 1e9,
    )
