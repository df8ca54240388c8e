"""Tool calls as answers: whatever way a model writes them, equal calls become equal strings."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

NamedArguments = tuple[str, Any]

_TAGGED = re.compile(r"<(tool_call|function_call|functioncall)>\s*(.*?)\s*(?:</\1>|(?=<\1>)|\Z)", re.DOTALL)
_FENCE = re.compile(r"\A\s*```[\w+-]*[ \t]*\n?(.*?)\n?```\s*\Z", re.DOTALL)


def canonical_calls(calls: Sequence[NamedArguments]) -> str:
    """JSON of the calls with sorted keys, sorted among themselves: their order says nothing."""
    return "[" + ",".join(sorted(_canonical(name, arguments) for name, arguments in calls)) + "]"


def message_calls(tool_calls: Sequence[Mapping[str, Any]]) -> list[NamedArguments]:
    """Function names and arguments of OpenAI `tool_calls`; entries that are no function call are left out."""
    functions = [call.get("function") for call in tool_calls if isinstance(call, Mapping)]
    return [
        (function["name"], function.get("arguments"))
        for function in functions
        if isinstance(function, Mapping) and isinstance(function.get("name"), str)
    ]


def tagged_calls(text: str) -> list[NamedArguments]:
    """Calls written as `<tool_call>{"name": ..., "arguments": ...}</tool_call>`, the Hermes way."""
    calls: list[NamedArguments] = []
    for match in _TAGGED.finditer(text):
        try:
            value, _ = json.JSONDecoder().raw_decode(match[2])
        except (ValueError, RecursionError):
            continue
        calls.extend(_json_calls(value) or ())
    return calls


def written_calls(text: str) -> list[NamedArguments] | None:
    """Calls where the whole text is nothing but calls: tagged, JSON, or Python; None where it is not."""
    tagged = tagged_calls(text)
    if tagged:
        return tagged
    fenced = _FENCE.match(text)
    body = (fenced[1] if fenced else text).strip()
    if body[:1] in "[{":
        try:
            return _json_calls(json.loads(body))
        except (ValueError, RecursionError):
            pass
    return _python_calls(body)


def _json_calls(value: Any) -> list[NamedArguments] | None:
    """{"name", "arguments"}, {"function": {...}}, {"f": {...}} or a list of such."""
    if isinstance(value, list):
        each = [_json_calls(item) if isinstance(item, dict) else None for item in value]
        if not each or any(calls is None for calls in each):
            return None
        return [call for calls in each for call in calls or ()]
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("function"), dict):
        value = value["function"]
    if isinstance(value.get("name"), str):
        for key in ("arguments", "parameters"):
            if key in value:
                return [(value["name"], value[key])]
    if len(value) == 1:
        name, arguments = next(iter(value.items()))
        if name.lower() in ("answer", "final_answer"):
            return None
        if isinstance(arguments, dict) or (isinstance(arguments, str) and arguments.startswith("{")):
            return [(name, arguments)]
    return None


def _python_calls(text: str) -> list[NamedArguments] | None:
    """`f(a=1)`, `[f(a=1), g(b=2)]`, one a line. Arguments that are no literals keep their source.

    Outside brackets at least one keyword is wanted: `sqrt(2)` is mathematics.
    """
    if not text.rstrip(";").endswith((")", "]")) or "(" not in text:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):
            body = ast.parse(text.strip().rstrip(";")).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    nodes: list[ast.expr] = []
    for statement in body:
        if not isinstance(statement, ast.Expr):
            return None
        value = statement.value
        if isinstance(value, (ast.List, ast.Tuple)):
            nodes.extend(value.elts)
        elif isinstance(value, ast.Call) and value.keywords:
            nodes.append(value)
        else:
            return None
    calls: list[NamedArguments] = []
    for node in nodes:
        if not isinstance(node, ast.Call) or not isinstance(node.func, (ast.Name, ast.Attribute)):
            return None
        arguments: dict[str, Any] = {str(i): _value(argument) for i, argument in enumerate(node.args)}
        arguments |= {keyword.arg or "**": _value(keyword.value) for keyword in node.keywords}
        calls.append((ast.unparse(node.func), arguments))
    return calls or None


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ast.unparse(node)


def _canonical(name: str, arguments: Any) -> str:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            arguments = arguments.strip()
    if arguments is None:
        arguments = {}
    return json.dumps(
        {"arguments": _plain(arguments), "name": name},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )


def _plain(value: Any) -> Any:
    """The value with whole floats as integers, tuples and sets as lists and every key a string."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(item) for item in value), key=repr)
    if value is None or isinstance(value, (str, int, float)):
        return value
    return repr(value)
