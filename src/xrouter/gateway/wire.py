"""The body of a chat request: bytes in, a checked `Chat` out. Every refusal names the field.

Only what would break the gateway or its accounting is checked; any other field reaches the model as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ..errors import RequestError
from ..messages import Request

MAX_DEPTH = 100
"""Deepest nesting of arrays and objects taken in a body: more than any tool schema needs."""

_OWN_FIELDS = ("model", "messages", "stream", "stream_options", "xrouter")


@dataclass(frozen=True, slots=True)
class Chat:
    """A checked request. `options` is the `xrouter` object as it came; `controls` checks it."""

    model: str
    request: Request
    stream: bool = False
    include_usage: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def parse_chat(body: bytes) -> Chat:
    """Raises RequestError, with `param` set to the field at fault where there is one."""
    data = _decode(body)
    model = data.get("model")
    if not isinstance(model, str) or not model:
        raise RequestError(f"model must be a string such as 'xrouter', got {_shown(model)}", param="model")
    if "messages" not in data:
        raise RequestError("messages is missing: give a list of chat messages", param="messages")
    messages = Request.from_messages(data["messages"]).messages
    for i, message in enumerate(messages):
        _check_content(f"messages[{i}].content", message)
    for name, (accepts, expected) in _CHECKS.items():
        value = data.get(name)
        if value is not None and not accepts(value):
            raise RequestError(f"{name} must be {expected}, got {_shown(value)}", param=name)
    stream = bool(data.get("stream"))
    return Chat(
        model=model,
        request=Request(messages, {name: value for name, value in data.items() if name not in _OWN_FIELDS}),
        stream=stream,
        include_usage=_include_usage(data.get("stream_options"), stream),
        options=data.get("xrouter") or {},
    )


def _decode(body: bytes) -> dict[str, Any]:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON in UTF-8: {error}") from error
    if not isinstance(data, dict):
        raise RequestError(f"the body must be a JSON object, got {_shown(data)}")
    if _deeper_than(MAX_DEPTH, data):
        raise RequestError(f"the body is nested deeper than {MAX_DEPTH} levels")
    return data


def _deeper_than(limit: int, value: Any) -> bool:
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


def _check_content(param: str, message: Mapping[str, Any]) -> None:
    content = message.get("content")
    if content is None:
        if message["role"] in ("user", "system", "developer", "tool"):
            raise RequestError(f"{param} is missing: a {message['role']} message needs one", param=param)
    elif isinstance(content, list):
        for i, part in enumerate(content):
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                raise RequestError(
                    f"{param}[{i}] must be an object with a type such as 'text'",
                    param=f"{param}[{i}]",
                )


def _include_usage(options: Any, stream: bool) -> bool:
    if options is None:
        return False
    if not stream:
        raise RequestError("stream_options is only allowed when stream is true", param="stream_options")
    include = options.get("include_usage")
    if include is not None and not isinstance(include, bool):
        raise RequestError(
            f"stream_options.include_usage must be true or false, got {_shown(include)}",
            param="stream_options.include_usage",
        )
    return bool(include)


def _shown(value: Any) -> str:
    """A value as an error message shows it: short, and never a client's text."""
    if value is None or isinstance(value, (bool, int, float)):
        return str(orjson.dumps(value), "ascii")
    names: dict[type, str] = {str: "a string", list: "an array", dict: "an object"}
    return "an empty string" if value == "" else names.get(type(value), type(value).__name__)


def _number(low: float, high: float) -> Callable[[Any], bool]:
    def accepts(value: Any) -> bool:
        return type(value) in (int, float) and low <= value <= high

    return accepts


def _integer(low: int, high: int = 2**63) -> Callable[[Any], bool]:
    def accepts(value: Any) -> bool:
        return type(value) is int and low <= value <= high

    return accepts


def _of(*types: type) -> Callable[[Any], bool]:
    def accepts(value: Any) -> bool:
        return type(value) in types

    return accepts


def _list_of(kind: type) -> Callable[[Any], bool]:
    def accepts(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(item, kind) for item in value)

    return accepts


def _stop(value: Any) -> bool:
    return isinstance(value, str) or _list_of(str)(value)


_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "stream": (_of(bool), "true or false"),
    "stream_options": (_of(dict), "an object"),
    "xrouter": (_of(dict), "an object"),
    "n": (_integer(1, 128), "an integer from 1 to 128"),
    "max_tokens": (_integer(1), "a positive integer"),
    "max_completion_tokens": (_integer(1), "a positive integer"),
    "temperature": (_number(0, 2), "a number from 0 to 2"),
    "top_p": (_number(0, 1), "a number from 0 to 1"),
    "presence_penalty": (_number(-2, 2), "a number from -2 to 2"),
    "frequency_penalty": (_number(-2, 2), "a number from -2 to 2"),
    "seed": (_integer(-(2**63)), "an integer"),
    "stop": (_stop, "a string or a list of strings"),
    "logprobs": (_of(bool), "true or false"),
    "top_logprobs": (_integer(0, 20), "an integer from 0 to 20"),
    "logit_bias": (_of(dict), "an object"),
    "tools": (_list_of(dict), "a list of objects"),
    "tool_choice": (_of(str, dict), "a string or an object"),
    "parallel_tool_calls": (_of(bool), "true or false"),
    "response_format": (_of(dict), "an object"),
    "user": (_of(str), "a string"),
    "metadata": (_of(dict), "an object"),
}
