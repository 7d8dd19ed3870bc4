"""Does an experiment survive its file, and is a wrong file refused with all that is wrong?"""

import json

import pytest
from experiments import experiments, json_values
from hypothesis import given
from hypothesis import strategies as st

from crucible import ir
from crucible.errors import SpecError

STAGE = {"node": "stage", "name": "load", "type": "LoadDataset"}


def problems_of(spec: object) -> list[str]:
    with pytest.raises(SpecError) as caught:
        ir.from_json(json.dumps(spec).encode())
    return [str(problem) for problem in caught.value.problems]


@given(experiments)
def test_an_experiment_comes_back_from_its_file_as_it_went_in(experiment: ir.Experiment) -> None:
    data = ir.to_json(experiment)
    assert ir.from_json(data) == experiment
    assert ir.to_json(ir.from_json(data)) == data


@given(experiments)
def test_key_order_does_not_change_the_bytes(experiment: ir.Experiment) -> None:
    turned = {key: experiment.config[key] for key in reversed(experiment.config)}
    again = ir.from_json(ir.to_json(experiment))
    assert ir.to_json(again) == ir.to_json(type(again)(**{**_fields(again), "config": turned}))


def _fields(experiment: ir.Experiment) -> dict[str, object]:
    return {name: getattr(experiment, name) for name in experiment.__struct_fields__}


@given(st.binary())
def test_arbitrary_bytes_are_refused_by_a_spec_error_only(data: bytes) -> None:
    with pytest.raises(SpecError):
        ir.from_json(data)


@given(json_values)
def test_arbitrary_json_is_refused_by_a_spec_error_only(value: object) -> None:
    with pytest.raises(SpecError):
        ir.from_json(json.dumps(value).encode())


@given(experiments, st.data())
def test_a_valid_file_with_one_value_swapped_loads_or_is_refused(
    experiment: ir.Experiment, data: st.DataObject
) -> None:
    spec = json.loads(ir.to_json(experiment))
    place = spec
    while isinstance(place, dict | list) and place:
        parent, key = place, data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        place = parent[key]
        if data.draw(st.booleans()):
            break
    parent[key] = data.draw(json_values)
    try:
        ir.from_json(json.dumps(spec).encode())
    except SpecError as error:
        assert all(problem.what for problem in error.problems)


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"id":"\\ud800","pipeline":[]}', b'{"id":"a","pipeline":[1e999]}'])
def test_json_that_no_reader_takes_is_a_spec_error(data: bytes) -> None:
    with pytest.raises(SpecError, match="not readable as JSON"):
        ir.from_json(data)


def test_a_pipeline_nested_a_thousand_deep_is_a_spec_error() -> None:
    opened = "".join(f'{{"node":"workflow","name":"{depth}","body":[' for depth in range(1000))
    with pytest.raises(SpecError, match="not readable"):
        ir.from_json(f'{{"id":"deep","pipeline":[{opened}{"]}" * 1000}]}}'.encode())


def test_stages_is_an_alias_of_pipeline_on_input_only() -> None:
    experiment = ir.from_json(json.dumps({"id": "a", "stages": [STAGE]}).encode())
    assert experiment == ir.Experiment(id="a", pipeline=(ir.StageNode(name="load", type="LoadDataset"),))
    assert b'"stages"' not in ir.to_json(experiment)


def test_pipeline_and_its_alias_together_are_refused() -> None:
    assert problems_of({"id": "a", "stages": [STAGE], "pipeline": [STAGE]}) == [
        "both 'pipeline' and its alias 'stages' are given. Keep 'pipeline'."
    ]


def test_every_deviation_from_the_shape_is_listed_with_its_path() -> None:
    loop = {"node": "loop", "name": "l", "over": "rows", "body": [{"node": "stge"}, {}, 7], "dpth": 1, "until": {}}
    assert problems_of(
        {"pipeline": [{"node": "stage", "name": 3}, loop], "slots": {"rows": {"type": None}}, "nme": ""}
    ) == [
        "unknown key (given: nme). Did you mean name?",
        "the key 'id' is missing.",
        "pipeline[0].name: Expected `str`, got `int` (given: 3).",
        "pipeline[0]: the key 'type' is missing.",
        "pipeline[1]: unknown key (given: dpth). Did you mean depth?",
        "pipeline[1].body[0]: unknown node (given: 'stge'). Did you mean stage?",
        "pipeline[1].body[1]: the key 'node' is missing. Known: conditional, loop, parallel, stage, stream, workflow.",
        "pipeline[1].body[2]: expected an object (given: 7).",
        "pipeline[1].until: the key 'condition' is missing. Known: and, compare, every, named, not, or.",
        "slots.rows.type: Expected `str`, got `null` (given: None).",
    ]


def test_the_schema_allows_what_is_written_and_names_every_node() -> None:
    schema = ir.json_schema()
    defined = schema["$defs"]
    assert set(defined["Experiment"]["properties"]) == set(ir.Experiment.__struct_fields__)
    nodes = {"StageNode", "LoopNode", "ConditionalNode", "ParallelNode", "StreamNode", "WorkflowNode"}
    assert nodes < set(defined)
    assert defined["Experiment"]["additionalProperties"] is False
