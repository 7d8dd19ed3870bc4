"""A value fits a JSON Schema, or the place where it does not is named."""

from typing import Any

import pytest

from crucible.ports.json_schema import misfits, require_schema

TREE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "size": {"type": "integer", "minimum": 1},
        "kind": {"enum": ["leaf", "node", 1]},
        "below": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2},
        "note": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        "more": {"type": "object", "additionalProperties": {"type": "number"}},
    },
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"name": "a", "size": 2.0, "below": [{"name": "b"}], "note": None, "more": {"x": 1.5}}, []),
        ([], ["$ is no object"]),
        ({"size": 1}, ["$.name is missing"]),
        ({"name": "a", "size": 0}, ["$.size is out of range"]),
        ({"name": "a", "size": True}, ["$.size is no integer"]),
        ({"name": "a", "kind": True}, ["$.kind is none of ['leaf', 'node', 1]"]),
        ({"name": "a", "below": [{"name": "b"}, {}]}, ["$.below[1].name is missing"]),
        ({"name": "a", "below": [{"name": "b"}] * 3}, ["$.below has 3 items"]),
        ({"name": "a", "note": 1}, ["$.note fits none of its 2 forms"]),
        ({"name": "a", "more": {"x": "y"}, "other": 1}, ["$.more.x is no number", "$.other is not asked for"]),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(value: object, said: list[str]) -> None:
    assert list(misfits(value, TREE)) == said


@pytest.mark.parametrize(
    "schema",
    ["object", {"type": "thing"}, {"items": {"$ref": "#/$defs/x"}}, {"$ref": "elsewhere"}, {"anyOf": [3]}],
)
def test_a_schema_that_is_none_is_refused(schema: object) -> None:
    with pytest.raises(ValueError):
        require_schema(schema)
