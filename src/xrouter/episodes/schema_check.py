"""Whether JSON keeps to a JSON Schema, as far as a plain reading goes: what it cannot judge it lets pass.

Read are type, enum, const, required, properties, additionalProperties (false), items, anyOf, oneOf, allOf and $ref within
the schema. Formats, patterns and bounds are not: a violation found here is one by any validator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MAX_DEPTH = 32
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (Mapping,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def violates(value: Any, schema: Any, root: Any = None, depth: int = 0) -> bool:
    """Whether the value breaks the schema. root: where $ref begins; the schema itself by default."""
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
        return bool(schema is False)
    root = schema if root is None else root
    if "$ref" in schema:
        target = _resolve(schema["$ref"], root)
        if target is not None and violates(value, target, root, depth + 1):
            return True
    types = schema.get("type")
    if types is not None and not _is_of(value, types):
        return True
    if isinstance(schema.get("enum"), list) and value not in schema["enum"]:
        return True
    if "const" in schema and value != schema["const"]:
        return True
    if _breaks_choice(value, schema, root, depth):
        return True
    if isinstance(value, Mapping):
        return _object_violates(value, schema, root, depth)
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return any(violates(item, schema["items"], root, depth + 1) for item in value)
    return False


def _breaks_choice(value: Any, schema: Mapping[str, Any], root: Any, depth: int) -> bool:
    for name in ("anyOf", "oneOf"):
        some = schema.get(name)
        if isinstance(some, list) and some and all(violates(value, one, root, depth + 1) for one in some):
            return True
    every = schema.get("allOf")
    return isinstance(every, list) and any(violates(value, one, root, depth + 1) for one in every)


def _object_violates(value: Mapping[str, Any], schema: Mapping[str, Any], root: Any, depth: int) -> bool:
    required = schema.get("required")
    if isinstance(required, Sequence) and any(
        isinstance(name, str) and name not in value for name in required
    ):
        return True
    properties = schema.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    closed = schema.get("additionalProperties") is False and "patternProperties" not in schema
    if closed and any(name not in properties for name in value):
        return True
    return any(
        violates(value[name], of_name, root, depth + 1)
        for name, of_name in properties.items()
        if name in value
    )


def _is_of(value: Any, types: Any) -> bool:
    names = [types] if isinstance(types, str) else types
    return not isinstance(names, list) or any(_is_a(value, name) for name in names)


def _is_a(value: object, name: object) -> bool:
    kinds = _TYPES.get(name) if isinstance(name, str) else None
    if kinds is None:
        return True
    if isinstance(value, bool):
        return name == "boolean"
    whole: bool = name != "integer" or not isinstance(value, float) or value.is_integer()
    return whole and isinstance(value, kinds)


def _resolve(reference: Any, root: Any) -> Any:
    """The part of the schema that "#/a/b" names; None where it names none."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    target = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if not part:
            continue
        name = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(target, Mapping) or name not in target:
            return None
        target = target[name]
    return target
