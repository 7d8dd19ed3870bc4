"""A run examines its data before the first step: what is wrong stops it, what is odd is recorded."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import crucible
from crucible.adapters.datasets import MemoryStore
from crucible.errors import DataError, WorkflowError
from crucible.framework import RunResult, Workflow, check, lift, lower
from crucible.kitchen import slots as s
from crucible.kitchen.stages import STAGES
from crucible.kitchen.stages.examining import ExamineData
from crucible.telemetry import Event, default_bus
from crucible.testing.run_noop import run_noop


def said(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


GOOD = [said(f"what is {number}?", f"it is {number}") for number in range(40)]
UNUSABLE = {"messages": [{"role": "user", "content": "?"}]}


def examined(workflow: Workflow, *, looked_at: int = 200, **options: Any) -> Workflow:
    """The workflow, examining its data after they are built."""
    options["rows"] = looked_at
    stage = ExamineData("examine_data", dataset=s.DATASET, heldout=s.HELDOUT, model="m", learning_rate=2e-4, **options)
    body = [node for node in workflow.body if not isinstance(node, ExamineData)]
    at = next(place for place, node in enumerate(body) if getattr(node, "name", "") == "build_dataset") + 1
    return replace(workflow, body=[*body[:at], stage, *body[at:]])


def run(rows: list[Mapping[str, Any]], *, config: Mapping[str, object] | None = None, **options: Any) -> RunResult:
    recipe = crucible.describe("sl_basic")
    examining = replace(recipe, workflow=lambda built: examined(recipe.workflow(built), **options))
    settings = {"dataset": "mine", "eval_rows": 0, "max_steps": 1, **(config or {})}
    return run_noop(examining, settings, ports={"dataset_store": MemoryStore({"mine": {"train": rows}})})


def test_clean_data_are_recorded_as_such() -> None:
    found = run(GOOD).results["examination"]
    assert {finding["status"] for finding in found} == {"pass", "skipped"}
    assert {"trained", "bos", "template", "overlap"} <= {finding["check"] for finding in found}


def test_every_failure_stops_the_run_before_its_first_step_with_what_to_do() -> None:
    with pytest.raises(DataError) as caught:
        run([*GOOD[:10], *[UNUSABLE] * 15, *GOOD[:10], *GOOD[:10]])
    checks = {problem.where.split(",")[0]: problem for problem in caught.value.problems}
    assert set(checks) == {"check duplicates"}
    assert "waive=duplicates" in checks["check duplicates"].fix


def test_several_failures_are_told_at_once() -> None:
    with pytest.raises(DataError) as caught:
        run([*[said("-", "yes") for _ in range(30)], *[UNUSABLE] * 90])
    assert {problem.where.split(",")[0] for problem in caught.value.problems} == {
        "check dropped",
        "check duplicates",
        "check near_empty",
    }


def test_a_check_that_is_waived_is_a_warning() -> None:
    result = run([*GOOD, *GOOD], waive="duplicates, bos")
    (warned,) = [finding for finding in result.results["examination"] if finding["status"] == "warn"]
    assert warned["check"] == "duplicates" and warned["sentence"].endswith("(waived)")
    assert run([*GOOD, *GOOD], waive="all").results["steps"] == 1


def test_waiving_a_check_that_does_not_exist_is_found_while_planning() -> None:
    workflow = examined(crucible.describe("sl_basic").workflow_at_defaults(), waive="bso,duplicates", looked_at=0)
    problems = {problem.where.rpartition(" ")[2]: problem for problem in check(workflow)}
    assert len(problems) == 2 and "did you mean bos?" in "".join(problem.fix for problem in problems.values())
    with pytest.raises(WorkflowError, match="no such check"):
        crucible.run(workflow, dry_run=True, manifest="test")


def test_warnings_are_announced_once() -> None:
    heard: list[Event] = []
    default_bus().attach("listener", "data.examined", heard.append)
    try:
        run([*GOOD, GOOD[0]])
    finally:
        default_bus().detach("listener")
    (event,) = heard
    (warning,) = event.metadata["warnings"]
    assert warning.startswith("duplicates: 1 of 41 rows") and event.measurements["warn"] == 1


def test_a_stream_is_examined_by_its_first_rows() -> None:
    config = {"streaming": True}
    assert run(GOOD, config=config).results["steps"] == 1
    with pytest.raises(DataError, match="duplicates"):
        run([*GOOD[:20], *GOOD[:20], *GOOD], config=config, looked_at=40)


def test_held_out_rows_that_are_trained_stop_the_run() -> None:
    with pytest.raises(DataError, match="overlap"):
        run([*GOOD, *GOOD[:30]], config={"eval_rows": 30})


def test_a_run_examines_its_data_from_its_file_alone() -> None:
    workflow = examined(crucible.describe("sl_basic").workflow_at_defaults(), waive="bos")
    known = {stage.__name__: stage for stage in (*STAGES, ExamineData)}
    assert check(workflow) == [] and lift(lower(workflow), known) == workflow
