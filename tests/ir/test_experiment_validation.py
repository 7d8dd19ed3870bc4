"""Is everything wrong with an experiment's meaning found, at once?"""

import math
from datetime import datetime

import msgspec
import pytest
from experiments import experiments
from hypothesis import given

from crucible import ir
from crucible.errors import SpecError


def problems_of(experiment: ir.Experiment) -> list[str]:
    return [str(problem) for problem in ir.validate(experiment)]


def stage(name: str = "load", **fields: object) -> ir.StageNode:
    return msgspec.structs.replace(ir.StageNode(name=name, type="Load"), **fields)


@given(experiments)
def test_a_valid_experiment_has_no_problems(experiment: ir.Experiment) -> None:
    assert ir.validate(experiment) == []


def test_all_problems_of_an_experiment_are_found_at_once() -> None:
    loop = ir.LoopNode(
        name="load",
        over="rwos",
        bind="row",
        body=(stage("", type=""), stage("inner", slots={"into": "row"})),
        depth=-1,
        until=ir.NotCondition(inner=ir.CompareCondition(slot="lss", op="<", value=0.1)),
    )
    slots = {"rows": ir.SlotDef(type="list", survival=ir.RebuiltSurvival(by="laod")), "row": ir.SlotDef(type="")}
    experiment = ir.Experiment(id="", pipeline=(stage(), loop), slots=slots)
    assert problems_of(experiment) == [
        "id: the id is empty.",
        "pipeline[1]: the name is taken by pipeline[0] (given: load).",
        "pipeline[1].over: this slot is not defined (given: rwos). Did you mean rows?",
        "pipeline[1].depth: the depth must not be negative (given: -1).",
        "pipeline[1].until.inner: this slot is not defined (given: lss). Known: row, rows.",
        "pipeline[1].body[0]: the name is empty.",
        "pipeline[1].body[0]: the type is empty.",
        "slots.rows: the slot is rebuilt by a node that does not exist (given: laod). Did you mean load?",
        "slots.row: a slot needs a name and a type.",
    ]


def test_numbers_out_of_range_are_found_wherever_they_stand() -> None:
    pipeline = (
        stage("a", timeout=0.0, retry=-1, backoff=-0.5),
        ir.LoopNode(name="b", over=-2, body=()),
        ir.ConditionalNode(condition=ir.EveryCondition(n=-1), then=()),
        ir.StreamNode(name="c", over=-1, produce=(), consume=(), capacity=0),
        ir.ParallelNode(name="d", branches=(), max_concurrency=0),
    )
    assert problems_of(ir.Experiment(id="a", pipeline=pipeline)) == [
        "pipeline[0]: the timeout must be above 0 seconds (given: 0.0).",
        "pipeline[0]: retry must not be negative (given: -1).",
        "pipeline[0]: backoff must be a number of seconds from 0 (given: -0.5).",
        "pipeline[1].over: a range must not be negative (given: -2).",
        "pipeline[2].condition: n must not be negative (given: -1).",
        "pipeline[3].over: a range must not be negative (given: -1).",
        "pipeline[3]: the capacity must be at least 1 (given: 0).",
        "pipeline[4]: max_concurrency must be at least 1 (given: 0).",
    ]


def test_an_empty_pipeline_is_a_problem() -> None:
    assert problems_of(ir.Experiment(id="a", pipeline=())) == ["pipeline: the pipeline is empty."]


def test_the_same_name_in_two_nested_workflows_is_no_problem() -> None:
    pipeline = tuple(ir.WorkflowNode(name=name, body=(stage(),)) for name in ("sft", "rl"))
    assert problems_of(ir.Experiment(id="a", pipeline=pipeline)) == []


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, 2**64, "\ud800", (1,), {1: 2}, datetime(2026, 1, 1), b"", print], ids=repr
)
def test_a_value_that_json_would_lose_is_refused_where_it_stands(value: object) -> None:
    experiment = ir.Experiment(id="a", pipeline=(stage(),), config={"here": [value]})
    assert all(
        text.startswith(("config.here[0]", "the experiment is not plain data")) for text in problems_of(experiment)
    )
    with pytest.raises(SpecError):
        ir.to_json(experiment)


def test_a_function_among_the_options_is_refused_with_a_sentence() -> None:
    (text,) = problems_of(ir.Experiment(id="a", pipeline=(stage(options={"score": len}),)))
    assert "plain data" in text


def test_a_struct_built_with_the_wrong_types_is_refused_by_its_shape() -> None:
    assert problems_of(ir.Experiment(id=3, pipeline=(stage(),))) == ["id: Expected `str`, got `int` (given: 3)."]
