"""How does gpt-oss declare tools? As types of a TypeScript-like namespace, as its chat template writes them."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from crucible.train.messages import Tool, as_json, function_of

_PLAIN: Mapping[str, str] = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean"}
_LONGEST = 50
"""Types of an array's items that are longer are written as `any`."""


def declared(tools: Sequence[Tool]) -> str:
    """The namespace `functions` with these tools."""
    types = "".join(_tool(function_of(tool)) for tool in tools)
    return f"## functions\n\nnamespace functions {{\n\n{types}}} // namespace functions"


def _tool(function: Mapping[str, Any]) -> str:
    """A tool's type. One without a description, which the template refuses, gets no comment line."""
    described = f"// {function['description']}\n" if isinstance(function.get("description"), str) else ""
    schema = _mapping(function.get("parameters"))
    properties = _mapping(schema.get("properties"))
    if not properties:
        return f"{described}type {function['name']} = () => any;\n\n"
    required = _required(schema)
    lines = "".join(_parameter(name, _mapping(spec), name in required) for name, spec in properties.items())
    return f"{described}type {function['name']} = (_: {{\n{lines}}}) => any;\n\n"


def _parameter(name: str, spec: Mapping[str, Any], required: bool) -> str:
    comment = f"// {spec['description']}\n" if spec.get("description") else ""
    default = ""
    if "default" in spec:
        value = spec["default"]
        shown = str(value) if spec.get("enum") or spec.get("oneOf") else as_json(value)
        default = f"// default: {shown}" if spec.get("oneOf") and not spec.get("enum") else f", // default: {shown}"
    return f"{comment}{name}{'' if required else '?'}: {_type(spec)}{default},\n"


def _type(spec: Mapping[str, Any]) -> str:
    kind = spec.get("type")
    if kind == "array":
        return _array(spec)
    if isinstance(kind, Sequence) and not isinstance(kind, str) and kind:
        return " | ".join(map(str, cast("Sequence[object]", kind)))
    if spec.get("oneOf"):
        return _one_of([_mapping(variant) for variant in spec["oneOf"]])
    if kind == "string" and spec.get("enum"):
        return '"' + '" | "'.join(map(str, spec["enum"])) + '"'
    if kind == "string" and spec.get("nullable"):
        return "string | null"
    if kind == "object":
        return _object(spec)
    return _PLAIN.get(kind, "any") if isinstance(kind, str) else "any"


def _array(spec: Mapping[str, Any]) -> str:
    null = " | null" if spec.get("nullable") else ""
    items = _mapping(spec.get("items"))
    if not items:
        return f"any[]{null}"
    if items.get("type") in _PLAIN:
        return f"{_PLAIN[items['type']]}[]{null}"
    inner = _type(items)
    return f"{'any' if inner == 'object | object' or len(inner) > _LONGEST else inner}[]{null}"


def _one_of(variants: Sequence[Mapping[str, Any]]) -> str:
    """One of several types. The spaces are those that the template leaves between its tags. (It means to write `any`
    where one is an object, but sets the variable that says so inside a loop, where Jinja forgets it.)"""
    written: list[str] = []
    for variant in variants:
        described = f"// {variant['description']}" if variant.get("description") else ""
        default = f"{' ' * 20}// default: {as_json(variant['default'])}" if "default" in variant else ""
        written.append(f"{_type(variant)}{described}{default}")
    return " | \n".join(written)


def _object(spec: Mapping[str, Any]) -> str:
    properties = _mapping(spec.get("properties"))
    required = _required(spec)
    if not properties:
        return "object"
    fields = [
        f"{name}{'' if name in required else '?'}: \n{' ' * 16}{_type(_mapping(field))}"
        for name, field in properties.items()
    ]
    return "{\n" + ", ".join(fields) + "}"


def _required(schema: Mapping[str, Any]) -> Sequence[str]:
    required = schema.get("required")
    return cast("Sequence[str]", required) if isinstance(required, list | tuple) else ()


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
