"""Function calls as answers: equal calls become equal strings, and making none is an answer as well."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from ..messages import Request
from .function_calls import MAX_CHARACTERS, MAX_DEPTH, NamedArguments, read_value, written_calls

NO_CALL = "no call"
"""The answer of a response that was offered functions and calls none."""

MAX_OWN_WORDS = 3
MAX_OWN_CHARACTERS = 24
"""An answer no longer than this is compared by its words, though functions were offered: 42, B, Paris."""

_NUMBER = re.compile(r"[-+]?(?:0|[1-9]\d{0,30})(?:\.\d{1,30})?")
_PREFIX = re.compile(r"\A(?:functions|default_api)\.")
_QUOTES = re.compile(r"[\"'`“”‘’]")
_NOTHING = frozenset(
    {"", "[]", "{}", "()", "none", "[none]", "null", "[null]", "no", "''", '""', '{"tool_calls":[]}'}
)
_REFUSING_NAMES = frozenset({"no_function", "out_of_domain"})
"""What Granite and NexusRaven are taught to call where no function fits."""
_ATTEMPT = re.compile(r"\A[\s`\[{(<'\"]*[\w.\\]+\(|\A\W*\{|<tool_call>|<function|\"name\"\s*:|\w\(\w+=")
_SCHEMA = re.compile(r"\{\s*\"(?:name|type|description|parameters|function|strict)\"\s*:")
_MAX_SCHEMAS_TRIED = 20


def normal_calls(text: str, *, offered: bool = False) -> str | None:
    """One string for all spellings of the same calls (see `normal_form`); None where the text is not calls."""
    calls = written_calls(text, offered=offered)
    return normal_form(calls) if calls else None


def normal_form(calls: Iterable[NamedArguments]) -> str:
    """The calls as JSON, sorted: calls of one response are made side by side, so that their order says nothing.

    Arguments go by name. Numbers are rationals, also those written as strings; truth values and null have one
    spelling; strings lose white space, quotes and capitals; JSON inside a string is read. '.' in a function's name is '_'.
    """
    return "[" + ",".join(sorted(_call(name, arguments) for name, arguments in calls)) + "]"


def offers_functions(request: Request) -> bool:
    """Whether the request offers functions, as `tools` or as JSON schemas in a message, and none was called yet.

    After a tool's result the answer is in the words of the response.
    """
    if request.messages and request.messages[-1].get("role") in ("tool", "function"):
        return False
    if request.params.get("tool_choice") == "none":
        return False
    return bool(request.params.get("tools") or request.params.get("functions")) or describes_functions(
        request.text
    )


def describes_functions(prompt: str) -> bool:
    """Whether a prompt holds the JSON schema of a function: an object with a "name" and "parameters"."""
    if '"parameters"' not in prompt or '"name"' not in prompt:
        return False
    decoder = json.JSONDecoder(strict=False)
    for tried, match in enumerate(_SCHEMA.finditer(prompt)):
        if tried == _MAX_SCHEMAS_TRIED:
            break
        try:
            value, _ = decoder.raw_decode(prompt, match.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(value.get("function"), dict):
            value = value["function"]
        if isinstance(value.get("name"), str) and isinstance(value.get("parameters"), dict):
            return True
    return False


def answer_where_offered(answer: str | None) -> str:
    """What an answer counts as where functions were offered: its calls, itself if it is a few words, or no call.

    A call that cannot be read stands for itself. Applying it twice changes nothing more.
    """
    text = (answer or "").strip()
    if text == NO_CALL or (len(text) <= MAX_OWN_CHARACTERS and _compact(text) in _NOTHING):
        return NO_CALL
    calls = written_calls(text, offered=True)
    if calls:
        made = [call for call in calls if call[0] not in _REFUSING_NAMES]
        return normal_form(made) if made else NO_CALL
    if _ATTEMPT.search(text):
        return text
    if len(text) <= MAX_OWN_CHARACTERS and len(text.split()) <= MAX_OWN_WORDS and text[0].isalnum():
        return text
    return NO_CALL


def _call(name: str, arguments: Any) -> str:
    if isinstance(arguments, str):
        arguments = read_value(arguments) if arguments.strip() else {}
    value = _normal({} if arguments is None else arguments, 0)
    name = _PREFIX.sub("", name.strip().replace("\\_", "_")).replace(".", "_")
    return json.dumps(
        {"arguments": value, "name": name}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )


def _normal(value: Any, depth: int) -> Any:
    """Lists, objects and strings of normal scalars."""
    if depth > MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return {_name(str(key)): _normal(item, depth + 1) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_normal(item, depth + 1) for item in value]
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int):
        return str(value) if value.bit_length() < 1_000 else hex(value)
    if isinstance(value, float):
        return str(Fraction(repr(value))) if abs(value) < 1e100 else str(value)
    return _string(str(value), depth)


def _string(text: str, depth: int) -> Any:
    text = text.strip()
    if text[:1] in ("{", "[") and len(text) <= MAX_CHARACTERS:
        value = read_value(text)
        if not isinstance(value, str):
            return _normal(value, depth + 1)
    if _NUMBER.fullmatch(text):
        return str(Fraction(text))
    text = _QUOTES.sub("", "".join(text.replace("\\_", "_").split())).casefold()
    return "null" if text == "none" else text


def _compact(text: str) -> str:
    return "".join(text.lower().split()).rstrip(".")


def _name(text: str) -> str:
    return text.replace("\\_", "_").strip()
