"""What a JSON body may hold, whichever API it is for: decoding, and checks that name the field at fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from ..errors import RequestError
from ..providers.shape import MAX_DEPTH, deeper_than

Accepts = Callable[[Any], bool]
Checks = Mapping[str, tuple[Accepts, str]]
"""Field -> what it accepts, and the same in words ("a positive integer")."""


def decode(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises RequestError."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON in UTF-8: {error}") from error
    if not isinstance(data, dict):
        raise RequestError(f"the body must be a JSON object, got {shown(data)}")
    # Counting is cheap, and few bodies have so many.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and deeper_than(MAX_DEPTH, data):
        raise RequestError(f"the body is nested deeper than {MAX_DEPTH} levels")
    return data


def check_fields(data: Mapping[str, Any], checks: Checks, *, prefix: str = "") -> None:
    """Raises RequestError for the first field that is given (null counts as absent) and not accepted.

    prefix: how an error names the object the fields are in, e.g. "text.format.".
    """
    if checks.keys().isdisjoint(data):
        return
    for name, (accepts, expected) in checks.items():
        value = data.get(name)
        if value is not None and not accepts(value):
            raise wrong(prefix + name, expected, value)


def wrong(param: str, expected: str, value: Any) -> RequestError:
    return RequestError(f"{param} must be {expected}, got {shown(value)}", param=param)


def model_name(data: Mapping[str, Any]) -> str:
    """Raises RequestError unless `model` names one."""
    model = data.get("model")
    if not isinstance(model, str) or not model:
        raise wrong("model", "a string such as 'xrouter'", model)
    return model


def shown(value: Any) -> str:
    """A value as an error message shows it: short, and never a client's text."""
    if value is None or isinstance(value, (bool, int, float)):
        return str(orjson.dumps(value), "ascii")
    names: dict[type, str] = {str: "a string", list: "an array", dict: "an object"}
    return "an empty string" if value == "" else names.get(type(value), type(value).__name__)


def number(low: float, high: float) -> Accepts:
    def accepts(value: Any) -> bool:
        return type(value) in (int, float) and low <= value <= high

    return accepts


def integer(low: int, high: int = 2**63) -> Accepts:
    def accepts(value: Any) -> bool:
        return type(value) is int and low <= value <= high

    return accepts


def of(*types: type) -> Accepts:
    def accepts(value: Any) -> bool:
        return type(value) in types

    return accepts


def one_of(*words: str) -> Accepts:
    def accepts(value: Any) -> bool:
        return isinstance(value, str) and value in words

    return accepts


def list_of(kind: type) -> Accepts:
    def accepts(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(item, kind) for item in value)

    return accepts


def text(value: Any) -> bool:
    """A string that is not empty."""
    return isinstance(value, str) and value != ""
