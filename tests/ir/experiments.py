"""Strategies that draw JSON values and whole valid experiments."""

from collections.abc import Iterable, Iterator
from itertools import count

import msgspec
from hypothesis import strategies as st

from crucible import ir

text = st.text(max_size=6)
word = st.text(min_size=1, max_size=6)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=4,
)
json_objects = st.dictionaries(text, json_values, max_size=2)

SLOTS = ("rows", "row", "grüße → 你好", '"')
slot = st.sampled_from(SLOTS)
survivals = st.none() | st.builds(ir.DurableSurvival, codec=word)
slot_defs = st.fixed_dictionaries({name: st.builds(ir.SlotDef, type=word, survival=survivals) for name in SLOTS})

conditions = st.recursive(
    st.builds(ir.EveryCondition, n=st.integers(0, 9), of=st.none() | slot)
    | st.builds(ir.CompareCondition, slot=slot, op=st.sampled_from(["==", "<", ">="]), value=json_values)
    | st.builds(ir.NamedCondition, name=word, options=json_objects, reads=st.dictionaries(text, slot, max_size=2)),
    lambda inner: (
        st.builds(ir.NotCondition, inner=inner)
        | st.builds(ir.AndCondition, conditions=st.lists(inner, max_size=2).map(tuple))
        | st.builds(ir.OrCondition, conditions=st.lists(inner, max_size=2).map(tuple))
    ),
    max_leaves=2,
)

stages = st.builds(
    ir.StageNode,
    name=text,
    type=word,
    slots=st.dictionaries(text, slot, max_size=2),
    options=json_objects,
    timeout=st.none() | st.floats(0.1, 9),
    retry=st.none() | st.integers(0, 3),
    backoff=st.none() | st.floats(0, 9),
    on_error=st.sampled_from([None, "halt", "skip"]),
)


def _containers(inner: st.SearchStrategy[ir.Node]) -> st.SearchStrategy[ir.Node]:
    block = st.lists(inner, max_size=2).map(tuple)
    return st.one_of(
        st.builds(
            ir.LoopNode,
            name=text,
            over=slot | st.integers(0, 9),
            body=block,
            bind=st.none() | slot,
            settle=block,
            depth=st.integers(0, 3),
            until=st.none() | conditions,
        ),
        st.builds(ir.ConditionalNode, condition=conditions, then=block, otherwise=block),
        st.builds(
            ir.ParallelNode,
            name=text,
            branches=st.lists(block, max_size=2).map(tuple),
            max_concurrency=st.none() | st.integers(1, 3),
            on_error=st.sampled_from(["halt", "continue"]),
        ),
        st.builds(
            ir.StreamNode,
            name=text,
            over=slot | st.integers(0, 9),
            bind=st.none() | slot,
            produce=block,
            consume=block,
            capacity=st.integers(1, 3),
        ),
        st.builds(ir.WorkflowNode, name=text, body=block, description=text),
    )


nodes = st.recursive(stages, _containers, max_leaves=4)


def _renamed(experiment: ir.Experiment) -> ir.Experiment:
    """The experiment with every node's name made unique by a number."""
    spec = msgspec.to_builtins(experiment)
    for number, node in zip(count(), _named(spec["pipeline"]), strict=False):
        node["name"] = f"{node['name']}-{number}"
    return msgspec.convert(spec, ir.Experiment)


def _named(part: object) -> Iterator[dict[str, object]]:
    """Every node that has a name, found in the experiment's plain data."""
    children: Iterable[object] = ()
    if isinstance(part, dict):
        if "node" in part and part["node"] != "conditional":
            yield part
        children = (
            part[key]
            for key in ("body", "settle", "then", "otherwise", "branches", "produce", "consume")
            if key in part
        )
    elif isinstance(part, list | tuple):
        children = part
    for child in children:
        yield from _named(child)


experiments = st.builds(
    ir.Experiment,
    id=word,
    name=text,
    description=text,
    pipeline=st.lists(nodes, min_size=1, max_size=2).map(tuple),
    slots=slot_defs,
    config=json_objects,
    metadata=json_objects,
).map(_renamed)
