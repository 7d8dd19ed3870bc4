"""Does a workflow come back from the plain data that it lowers to?"""

import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import STAGES, Add, Await, Fail, Put, Save, future, row, rows, slot, square, supervised

from crucible import ir
from crucible.errors import SpecError
from crucible.framework import (
    And,
    Compare,
    Every,
    Loop,
    Named,
    Node,
    Not,
    Or,
    Parallel,
    Range,
    Stream,
    When,
    Workflow,
    check,
    lift,
    lower,
)

n = slot("n", int)
counts = st.integers(0, 5)
conditions = st.recursive(
    st.builds(Every, n=counts, of=st.sampled_from([None, n]))
    | st.builds(Compare, slot=st.just(n), op=st.sampled_from(["==", "<"]), value=st.none() | counts | st.text())
    | st.builds(Named, name=st.just("calm"), options=st.just({"patience": 2}), reads=st.just({"loss": n})),
    lambda inner: (
        inner.map(Not)
        | st.tuples(inner, inner).map(lambda pair: And(*pair))
        | st.tuples(inner).map(lambda one: Or(*one))
    ),
    max_leaves=3,
)
stages = st.sampled_from(
    [
        Put("put", into=rows, value=[1, {"a": None}]),
        Add("add", to=n),
        Add("add2", to=n, other=row, amount=3),
        Await("await", future=future, into=square),
        Fail("fail"),
        Fail("fail twice", timeout=1.5, retry=2, backoff=0.5, on_error="skip"),
        Fail("fail once", backoff=3.0),
    ]
)


def _containers(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    block = st.lists(inner, max_size=2)
    over, bind, maybe = st.just(rows) | counts.map(Range), st.sampled_from([None, row]), st.none() | conditions
    named = {"name": st.just("x")}
    return st.one_of(
        st.builds(Loop, **named, over=over, bind=bind, body=block, settle=block, depth=counts, until=maybe),
        st.builds(When, conditions, block, otherwise=block),
        st.builds(
            Parallel,
            **named,
            branches=st.lists(block, max_size=2),
            max_concurrency=st.none() | st.integers(1, 3),
            on_error=st.sampled_from(["halt", "continue"]),
        ),
        st.builds(Stream, **named, over=over, bind=bind, produce=block, consume=block, capacity=st.integers(1, 3)),
        st.builds(Workflow, **named, body=block, description=st.text()),
    )


nodes = st.recursive(stages, _containers, max_leaves=4)


def _numbered(node: ir.Node, taken: list[ir.Node]) -> ir.Node:
    """The node with names made unique, since generated ones repeat."""
    spec: Any = msgspec.to_builtins(node)
    for part in _parts(spec):
        if "name" in part:
            taken.append(node)
            part["name"] += str(len(taken))
    return msgspec.convert(spec, ir.Node)


def _parts(spec: Any) -> list[dict[str, Any]]:
    if isinstance(spec, dict):
        own = [spec] if "node" in spec else []
        return own + [
            part for key, value in spec.items() if key not in ("options", "condition") for part in _parts(value)
        ]
    return [part for item in spec for part in _parts(item)] if isinstance(spec, list | tuple) else []


@given(st.lists(nodes, min_size=1, max_size=3), st.text())
def test_lifting_and_lowering_are_inverse(body: list[Node], description: str) -> None:
    lowered = lower(Workflow("w", body=body, description=description), config={"a": 1}, metadata={"b": [2]})
    taken: list[ir.Node] = []
    experiment = msgspec.structs.replace(
        lowered,
        pipeline=tuple(_numbered(node, taken) for node in lowered.pipeline),
        slots={
            name: msgspec.structs.replace(slot, survival=ir.DurableSurvival(codec="json"))
            for name, slot in lowered.slots.items()
        },
    )
    workflow = lift(experiment, STAGES)
    again = lower(workflow, config=experiment.config, metadata=experiment.metadata)
    assert again == experiment
    assert lift(again, STAGES) == workflow


def test_a_workflow_comes_back_from_its_file_equal_and_sound() -> None:
    workflow = supervised(depth=1, until=Compare(row, "==", 9))
    again = lift(ir.from_json(ir.to_json(lower(workflow, id="sl_basic"))), STAGES)
    assert again == workflow and check(again) == check(workflow) == []


def test_every_option_is_written_out_and_absent_ones_default_on_the_way_back() -> None:
    (node,) = lower(Workflow("w", body=[Add("add", to=n)])).pipeline
    assert isinstance(node, ir.StageNode) and node.options == {"amount": 1} and node.slots == {"to": "n"}
    slots = {"n": ir.SlotDef(type="int", survival=ir.DurableSurvival(codec="json"))}
    short = ir.Experiment(id="w", pipeline=(msgspec.structs.replace(node, options={}),), slots=slots)
    assert lift(short, STAGES) == Workflow("w", body=[Add("add", to=n)])


def test_types_are_bound_again_from_the_stages_annotations() -> None:
    experiment = lower(Workflow("w", body=[Save("save", step=n), Await("await", future=future, into=square)]))
    lifted = lift(
        msgspec.structs.replace(
            experiment,
            slots={**experiment.slots, "future": ir.SlotDef(type="Future[T]"), "square": ir.SlotDef(type="Strange")},
        ),
        STAGES,
    )
    save, awaiting = lifted.body
    assert isinstance(save, Save) and save.step.type is int
    assert isinstance(awaiting, Await) and awaiting.into.type is object and awaiting.into.type_name == "Strange"


def test_every_problem_of_the_stages_is_found_at_once() -> None:
    pipeline = (
        ir.StageNode(name="a", type="Svae"),
        ir.StageNode(name="b", type="Add", slots={"two": "n"}, options={"amuont": 1}),
        ir.StageNode(name="c", type="Put", slots={"into": "n"}, timeout=3.0),
    )
    with pytest.raises(SpecError) as caught:
        lift(ir.Experiment(id="w", pipeline=pipeline, slots={"n": ir.SlotDef(type="int")}), STAGES)
    assert [str(problem) for problem in caught.value.problems] == [
        "pipeline[0] (a): unknown stage type (given: Svae). Did you mean Save?",
        "pipeline[1] (b): Add has no such slot (given: two). Did you mean to?",
        "pipeline[1] (b): Add has no such option (given: amuont). Did you mean amount?",
        "pipeline[1] (b): Add needs the slot 'to'.",
        "pipeline[2] (c): Put needs the option 'value'.",
    ]


def test_an_invalid_experiment_is_not_lifted() -> None:
    with pytest.raises(SpecError, match="the pipeline is empty"):
        lift(ir.Experiment(id="w", pipeline=()), STAGES)


def test_importing_the_framework_imports_nothing_heavy() -> None:
    heavy = "torch transformers datasets pyarrow ray tinker starlette rich matplotlib tokenizers"
    script = f"import sys, crucible.framework; print([m for m in '{heavy}'.split() if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
