"""Does a JSON value fit a JSON Schema? For the part of draft 2020-12 that structured answers use.

Checked are `type`, `enum`, `const`, `anyOf`, `$ref` into the same schema, `properties`, `required`,
`additionalProperties`, `items`, `minItems`, `maxItems`, `minimum` and `maximum`; other keywords are passed over.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, cast

JsonSchema: TypeAlias = Mapping[str, Any]

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def misfits(value: object, schema: JsonSchema, *, root: JsonSchema | None = None, where: str = "$") -> Iterator[str]:
    """Everything in `value` that the schema does not allow, each as a phrase with its place (`$.a[0]`).

    schema: one that `require_schema` accepts. root: what its `$ref` points into; the schema itself by default.
    """
    root = schema if root is None else root
    if "$ref" in schema:
        yield from misfits(value, referred(schema["$ref"], root), root=root, where=where)
    types = schema.get("type", list(_TYPES))
    if not any(_is(value, name) for name in ([types] if isinstance(types, str) else types)):
        yield f"{where} is no {types if isinstance(types, str) else ' or '.join(types)}"
        return
    if "enum" in schema and not any(_same(value, known) for known in schema["enum"]):
        yield f"{where} is none of {schema['enum']}"
    if "const" in schema and not _same(value, schema["const"]):
        yield f"{where} is not {schema['const']!r}"
    choices = schema.get("anyOf", ())
    if choices and all(any(misfits(value, choice, root=root)) for choice in choices):
        yield f"{where} fits none of its {len(choices)} forms"
    if isinstance(value, dict):
        yield from _in_object(cast(dict[str, object], value), schema, root, where)
    elif isinstance(value, list):
        yield from _in_array(cast(list[object], value), schema, root, where)
    elif isinstance(value, (int, float)) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{where} is out of range"


def referred(reference: object, root: JsonSchema) -> JsonSchema:
    """What `#/$defs/Name` (or `#`) stands for.

    Raises:
        ValueError: if there is nothing of that name.
    """
    found: Any = root
    for part in str(reference).split("/")[1:]:
        found = cast(Mapping[str, Any], found).get(part) if isinstance(found, Mapping) else None
    if not str(reference).startswith("#") or not isinstance(found, Mapping):
        raise ValueError(f"the schema refers to {reference!r}, which it does not hold")
    return cast(JsonSchema, found)


def require_schema(schema: object, *, root: JsonSchema | None = None) -> None:
    """Raise ValueError if the schema names an unknown type, or refers to what it does not hold."""
    if not isinstance(schema, Mapping):
        raise ValueError(f"a JSON Schema is a mapping; got {schema!r}")
    schema = cast(JsonSchema, schema)
    root = schema if root is None else root
    types: Any = schema.get("type", [])
    for name in [types] if isinstance(types, str) else types:
        if name not in _TYPES:
            raise ValueError(f"a JSON Schema's type is one of {', '.join(_TYPES)}; got {name!r}")
    if "$ref" in schema:
        referred(schema["$ref"], root)
    parts: list[object] = [*schema.get("anyOf", ())]
    parts += [part for key in ("properties", "$defs") for part in schema.get(key, {}).values()]
    parts += [schema["items"]] if "items" in schema else []
    parts += [] if isinstance(schema.get("additionalProperties", True), bool) else [schema["additionalProperties"]]
    for part in parts:
        require_schema(part, root=root)


def _is(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _same(left: object, right: object) -> bool:
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def _in_object(value: dict[str, object], schema: JsonSchema, root: JsonSchema, where: str) -> Iterator[str]:
    known: Mapping[str, JsonSchema] = schema.get("properties", {})
    others: JsonSchema | bool = schema.get("additionalProperties", True)
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{where}.{name} is missing"
    for name, item in value.items():
        if name in known:
            yield from misfits(item, known[name], root=root, where=f"{where}.{name}")
        elif isinstance(others, Mapping):
            yield from misfits(item, others, root=root, where=f"{where}.{name}")
        elif not others:
            yield f"{where}.{name} is not asked for"


def _in_array(value: list[object], schema: JsonSchema, root: JsonSchema, where: str) -> Iterator[str]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        yield f"{where} has {len(value)} items"
    for index, item in enumerate(value):
        yield from misfits(item, schema.get("items", {}), root=root, where=f"{where}[{index}]")
