"""Tool calls as exact answers: calls with equal arguments become equal strings, for grading and display."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .function_calls import NamedArguments


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
