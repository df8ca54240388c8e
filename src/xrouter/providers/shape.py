"""Whether what an upstream sent has the shape of a chat completion, as far as anything here reads it.

Everything behind the provider may then take its fields for what they should be. Unknown fields pass as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

MAX_DEPTH = 100
"""Deepest nesting of arrays and objects that is taken, in bodies of clients and of upstreams alike."""

Accepts = Callable[[Any], bool]


def flaw(data: Mapping[str, Any]) -> str | None:
    """The first field of a chat.completion or chat.completion.chunk object that is of a wrong type; None if none is."""
    wrong = _wrong(data, _TOP)
    if wrong is not None:
        return wrong
    for i, choice in enumerate(data.get("choices") or ()):
        at = f"choices[{i}]"
        if not isinstance(choice, dict):
            return at
        wrong = _wrong(choice, _CHOICE) or _wrong(choice.get("logprobs"), _LOGPROBS, "logprobs.")
        for name in ("message", "delta"):
            wrong = wrong or _wrong(choice.get(name), _MESSAGE, f"{name}.")
            for call in (choice.get(name) or {}).get("tool_calls") or () if wrong is None else ():
                wrong = (
                    wrong
                    or _wrong(call, _CALL, f"{name}.tool_calls[].")
                    or _wrong(call.get("function"), _FUNCTION, f"{name}.tool_calls[].function.")
                )
        if wrong is not None:
            return f"{at}.{wrong}"
    return None


def deeper_than(limit: int, value: Any) -> bool:
    """Whether arrays and objects are nested deeper than `limit` levels."""
    level = [value]
    for _ in range(limit):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def _wrong(data: Mapping[str, Any] | None, fields: Mapping[str, Accepts], at: str = "") -> str | None:
    if not data:
        return None
    for name, accepts in fields.items():
        value = data.get(name)
        if value is not None and not accepts(value):
            return at + name
    return None


def _of(*types: type) -> Accepts:
    def accepts(value: Any) -> bool:
        return type(value) in types

    return accepts


def _objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _index(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _content(value: Any) -> bool:
    return isinstance(value, str) or _objects(value)


_TOP: Mapping[str, Accepts] = {
    "id": _of(str),
    "model": _of(str),
    "created": _of(int, float),
    "usage": _of(dict),
    "choices": _of(list),
}
_CHOICE: Mapping[str, Accepts] = {
    "index": _index,
    "finish_reason": _of(str),
    "message": _of(dict),
    "delta": _of(dict),
    "logprobs": _of(dict),
}
_LOGPROBS: Mapping[str, Accepts] = {"content": _objects}
_MESSAGE: Mapping[str, Accepts] = {"content": _content, "tool_calls": _objects}
_CALL: Mapping[str, Accepts] = {"index": _index, "id": _of(str), "function": _of(dict)}
_FUNCTION: Mapping[str, Accepts] = {"name": _of(str)}
