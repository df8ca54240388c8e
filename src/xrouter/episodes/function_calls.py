"""Function calls written as text, in whatever spelling, read into names and arguments.

Read are OpenAI's `tool_calls`, {"name", "arguments"} objects, tags (<tool_call>, <function=f>), Python calls, lists of
all these, fenced or between a chat template's special tokens. Nothing raises; longer or deeper text is not read.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

NamedArguments = tuple[str, Any]

MAX_CHARACTERS = 20_000
MAX_WRAPPERS = 8
MAX_DEPTH = 40
"""Brackets within brackets, and calls within wrappers."""

_TAGGED = re.compile(r"<(tool_call|function_call|functioncall)>(.*?)(?:</\1>|(?=<\1>)|\Z)", re.DOTALL)
_NAMED_TAG = re.compile(r"<function=([\w.-]{1,200})>\s*(\{.*?\})?\s*</function>", re.DOTALL)
_FENCE = re.compile(
    r"\A```(?:(?:python|json|javascript|js|java|tool_code|tool_call|plaintext|text)\b[ \t]*|[\w+-]*[ \t]*(?=\n))?"
    r"\n?(.*?)\n?```\Z",
    re.DOTALL,
)
_GLUED_FENCE = re.compile(
    r"\A```(?:python|json|javascript|java|tool_code|plaintext)(?=[\[{A-Za-z_])(.*)```\Z", re.DOTALL
)
_SPECIAL = r"(?:<\|[\w/]{1,40}\|>|</?s>|\[TOOL_CALLS\])"
_SPECIAL_TOKENS = re.compile(rf"\A(?:\s*{_SPECIAL})+|(?:{_SPECIAL}\s*)+\Z")
_SPECIAL_STARTS = ("<", "[TOOL_CALLS]")
_CALL_START = re.compile(r"([A-Za-z_$](?:[\w$.]|\\_){0,199})\s*\(")
_LISTED_CALL = re.compile(r"\[\s*[A-Za-z_$]")
_QUOTED_CALLS = re.compile(r"\[\s*(['\"])(.*\))\1\s*\]\Z", re.DOTALL)
"""One string for all calls, quoted with the marks that their own strings use."""
_NAME_THEN_OBJECT = re.compile(r"\A([A-Za-z_](?:[\w.]|\\_){0,199})\s*(?=\{)")
_BETWEEN = re.compile(r"[\s,;]*")
_KEYWORD = re.compile(r"\s*([A-Za-z_](?:\w|\\_)*)\s*=(?!=)\s*")
_MARK = re.compile(r"[()\[\]{},]|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|['\"]", re.DOTALL)
_BRACKET = re.compile(r"[()\[\]{}]")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_PLAIN_STRING = re.compile(r"'[^'\"\\]*'|\"[^'\"\\]*\"")
_VALUE_STARTS = frozenset("{[(\"'-0123456789.")
_LITERAL_ENDS = frozenset("}])\"'")
_JSON = json.JSONDecoder(strict=False)
_CONSTANTS = {"true": True, "false": False, "null": None, "none": None, "undefined": None}


def tagged_calls(text: str) -> list[NamedArguments]:
    """Calls written as `<tool_call>{"name": ..., "arguments": ...}</tool_call>`, the Hermes way."""
    calls: list[NamedArguments] = []
    if "<" not in text:
        return calls
    for match in _TAGGED.finditer(text):
        value = _first_json(match[2].strip())
        if value is None:
            value = read_value(match[2])
        if not isinstance(value, str):
            calls.extend(_json_calls(value, loose=True, depth=0) or ())
    return calls


def written_calls(text: str, *, offered: bool = False) -> list[NamedArguments] | None:
    """The calls of a text which is nothing but calls, or holds tagged ones; None where it is anything else.

    offered: whether the question offered functions. Only then are calls read from what might as well be
    mathematics or a literal: `f(2)`, `f()`, `{"f": {"a": 1}}`.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    named: list[NamedArguments] = (
        [(match[1], match[2] or "{}") for match in _NAMED_TAG.finditer(text)] if "<" in text else []
    )
    return tagged_calls(text) or named or _calls(text, loose=offered, depth=0)


def read_value(text: str) -> Any:
    """A value as JSON or Python writes it; the bare text where it is neither."""
    text = text.strip()
    if _PLAIN_STRING.fullmatch(text):
        return text[1:-1]
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    if text[:1] not in _VALUE_STARTS or _too_deep(text):
        return text
    try:
        return _JSON.decode(text)
    except (ValueError, RecursionError):
        if text[-1:] not in _LITERAL_ENDS:
            return text
    try:
        with warnings.catch_warnings(action="ignore"):
            return _evaluated(ast.parse(text, mode="eval").body)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


def _calls(text: str, *, loose: bool, depth: int) -> list[NamedArguments] | None:
    body = _unwrapped(text)
    if not body or depth > MAX_DEPTH:
        return None
    if _LISTED_CALL.match(body) and body[-1] == "]":
        calls = _python_calls(body[1:-1], loose=loose)
        if calls:
            return calls
    if body[0] in "[{" and not _too_deep(body):
        value = _json_sequence(body)
        value = read_value(body) if value is None else value
        calls = None if value == body else _json_calls(value, loose=loose, depth=depth)
        if calls:
            return calls
        quoted = _QUOTED_CALLS.match(body)
        if quoted:
            return _python_calls(quoted[2], loose=loose)
    named = _NAME_THEN_OBJECT.match(body)
    if named and loose:
        arguments = read_value(body[named.end() :])
        return [(named[1], arguments)] if isinstance(arguments, dict) else None
    return _python_calls(body, loose=loose)


def _unwrapped(text: str) -> str:
    """Without fences, special tokens and closing semicolons."""
    text = text.strip()
    for _ in range(MAX_WRAPPERS):
        before = text
        if text.startswith(_SPECIAL_STARTS) or text[-1:] == ">":
            text = _SPECIAL_TOKENS.sub("", text).strip()
        text = text.rstrip("; ")
        fenced = text.startswith("```") and (_GLUED_FENCE.match(text) or _FENCE.match(text))
        text = fenced[1].strip() if fenced else text
        if len(text) > 2 and text[0] == text[-1] == "`" and "`" not in text[1:-1]:
            text = text[1:-1].strip()
        if text == before:
            break
    return text


def _first_json(text: str) -> Any:
    try:
        return _JSON.raw_decode(text)[0]
    except (ValueError, RecursionError):
        return None


def _json_sequence(text: str) -> Any:
    """The JSON value that the text is, or the list of those that it is a sequence of; None if it is neither."""
    values, position = [], 0
    try:
        while position < len(text):
            value, position = _JSON.raw_decode(text, position)
            values.append(value)
            between = _BETWEEN.match(text, position)
            position = between.end() if between else position
    except (ValueError, RecursionError):
        return None
    return values[0] if len(values) == 1 else values


def _json_calls(value: Any, *, loose: bool, depth: int) -> list[NamedArguments] | None:
    """{"tool_calls": [...]}, {"name", "arguments"}, {"function": {...}}, {"f": "{...}"}, strings of calls, lists of such."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, str):
        return _calls(value, loose=loose, depth=depth + 1) if "(" in value or "{" in value else None
    if isinstance(value, (list, tuple)):
        each = [_json_calls(item, loose=loose, depth=depth + 1) for item in value]
        if not each or any(calls is None for calls in each):
            return None
        return [call for calls in each for call in calls or ()]
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("tool_calls"), list):
        return _json_calls(value["tool_calls"], loose=True, depth=depth + 1)
    if isinstance(value.get("function"), dict):
        value = value["function"]
    name = value.get("name")
    if isinstance(name, str):
        for key in ("arguments", "parameters"):
            if key in value:
                return [(name, value[key])]
    return _keyed_calls(value, loose=loose)


def _keyed_calls(value: Mapping[Any, Any], *, loose: bool) -> list[NamedArguments] | None:
    """{"f": {"a": 1}}: a function's name for a key."""
    calls: list[NamedArguments] = []
    for name, arguments in value.items():
        if not isinstance(name, str) or name.lower() in ("answer", "final_answer"):
            return None
        encoded = isinstance(arguments, str) and arguments.lstrip().startswith("{")
        if not encoded and not (loose and isinstance(arguments, dict)):
            return None
        calls.append((name, arguments))
    return calls if len(calls) == 1 or loose else None


def _python_calls(text: str, *, loose: bool) -> list[NamedArguments] | None:
    """`f(a=1)`, or several with commas, semicolons or nothing in between; None if anything else stands there."""
    calls: list[NamedArguments] = []
    position = _end(_BETWEEN, text, 0)
    while position < len(text):
        start = _CALL_START.match(text, position)
        closing = start and _closing_bracket(text, start.end() - 1)
        if not start or not closing:
            return None
        arguments = _arguments(text[start.end() : closing])
        if not loose and not any(not key.isdigit() for key in arguments):
            return None
        calls.append((start[1], arguments))
        position = _end(_BETWEEN, text, closing + 1)
    return calls or None


def _arguments(text: str) -> dict[str, Any]:
    """Arguments by keyword, by place ("0", "1", ...) where they have none."""
    arguments: dict[str, Any] = {}
    for i, part in enumerate(_split(text)):
        keyword = _KEYWORD.match(part)
        if keyword:
            arguments[keyword[1].replace("\\_", "_")] = read_value(part[keyword.end() :])
        elif part.strip():
            value = read_value(part)
            if i == 0 and isinstance(value, dict) and part.strip() == text.strip():
                return {str(key): item for key, item in value.items()}
            arguments[str(i)] = value
    return arguments


def _split(text: str) -> Iterator[str]:
    start = 0
    for place, mark, depth in _marks(text):
        if mark == "," and depth == 0:
            yield text[start:place]
            start = place + 1
    yield text[start:]


def _closing_bracket(text: str, opening: int) -> int | None:
    return next((place for place, _, depth in _marks(text, opening) if depth == 0), None)


def _marks(text: str, start: int = 0) -> Iterator[tuple[int, str, int]]:
    """(place, character, depth after it) of closing brackets and commas outside strings, until something does not match."""
    stack: list[str] = []
    for match in _MARK.finditer(text, start):
        mark = match[0]
        if mark in _CLOSING:
            stack.append(_CLOSING[mark])
        elif mark == ",":
            yield match.start(), mark, len(stack)
        elif len(mark) == 1:
            if mark in "\"'" or not stack or stack.pop() != mark:
                return
            yield match.start(), mark, len(stack)


def _too_deep(text: str) -> bool:
    if len(text) > MAX_CHARACTERS:
        return True
    if text.count("(") + text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    depth = deepest = 0
    for bracket in _BRACKET.findall(text):
        depth += 1 if bracket in _CLOSING else -1
        deepest = max(deepest, depth)
    return deepest > MAX_DEPTH


def _evaluated(node: ast.expr) -> Any:
    """The value of a literal; bare words are strings, true and null what they say, anything else keeps its source."""
    match node:
        case ast.Constant(value=value):
            return value if value is None or isinstance(value, (str, int, float)) else repr(value)
        case ast.List() | ast.Tuple() | ast.Set():
            return [_evaluated(item) for item in node.elts]
        case ast.Dict():
            keys = ["**" if key is None else _evaluated(key) for key in node.keys]
            values = [_evaluated(item) for item in node.values]
            return {
                key if isinstance(key, str) else json.dumps(key): value
                for key, value in zip(keys, values, strict=True)
            }
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) if isinstance(value, (int, float)):
            return -value
        case ast.Name(id=name):
            return _CONSTANTS.get(name.lower(), name)
        case _:
            return ast.unparse(node)


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position
