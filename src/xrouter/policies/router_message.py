"""The tool calls of a routing language model's message, wherever its server left them, and that message as it is shown again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..catalog.model import Model
from ..episodes.actions import MAX_NAME_LENGTH, SELECT, named_arguments, tool_names
from ..episodes.function_calls import NamedArguments, written_calls
from ..errors import InvalidActionError
from ..messages import Completion, Message
from .router_view import harmless

_THINKING = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)\s*", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"\A.*?</think>\s*", re.DOTALL | re.IGNORECASE)
CALL_MARKS = re.compile(
    r"</?tool_calls?>|<function[=_]|\[TOOL_CALLS\]|<\|tool_call|<\|python_tag\|>|<[|｜]tool", re.IGNORECASE
)
_BLOCKS = (
    re.compile(r"```(?:json|xml|tool_call|tool_code|python)?[ \t]*\n(.*?)```", re.DOTALL),
    re.compile(r"<tools>(.*?)</tools>", re.DOTALL),
)
"""Where models that lack a tag of their own put calls; Qwen2.5-Coder does both."""


@dataclass(frozen=True, slots=True)
class AskedCall:
    """One tool call as it was written. arguments: JSON text or a value."""

    id: str
    name: str
    arguments: Any


def native_calls(completion: Completion, turn: int) -> list[AskedCall]:
    asked: list[AskedCall] = []
    ids: set[str] = set()
    for number, call in enumerate(completion.tool_calls, start=1):
        try:
            name, arguments = named_arguments(call)
        except InvalidActionError:
            name, arguments = "", None
        given = call.get("id") if isinstance(call, Mapping) else None
        id_ = given if isinstance(given, str) and given and given not in ids else made_id(turn, number)
        ids.add(id_)
        asked.append(AskedCall(id_, name, arguments))
    return asked


def calls_in_text(text: str, offered: Sequence[Model]) -> list[NamedArguments]:
    """Calls left in the text in any spelling; other than tagged ones only where they name a tool of ours."""
    ours = {*tool_names(offered), SELECT}
    for piece in (text, *(found for block in _BLOCKS for found in block.findall(text))):
        calls = written_calls(piece, offered=True) or []
        if calls and (CALL_MARKS.search(piece) or all(name in ours for name, _ in calls)):
            return calls
    return []


def before_calls(text: str) -> str:
    mark = CALL_MARKS.search(text)
    return text[: mark.start()].strip() if mark else ""


def _safe_name(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:MAX_NAME_LENGTH] or "unknown"


def _object_text(arguments: Any) -> str:
    value = arguments
    if isinstance(arguments, str):
        try:
            value = json.loads(arguments)
        except (ValueError, RecursionError):
            return "{}"
    if not isinstance(value, Mapping):
        return "{}"
    return harmless(json.dumps(value, ensure_ascii=False, default=str))


def without_thinking(text: str) -> str:
    """The text without a block of thoughts at its start, which some servers leave there."""
    stripped = _THINKING.sub("", text, count=1)
    if stripped == text and "</think>" in text.lower():
        stripped = _THOUGHT_END.sub("", text, count=1)  # the template had opened the block
    return stripped


def shown_message(text: str, asked: Sequence[Any]) -> Message:
    """An assistant message whose names and arguments are what servers demand of a history."""
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if asked else "")}
    if asked:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": _safe_name(call.name), "arguments": _object_text(call.arguments)},
            }
            for call in asked
        ]
    return message


def made_id(turn: int, number: int) -> str:
    """An id for a tool call without one: nine letters and digits, which the strictest templates demand."""
    return f"call{turn % 100:02}{number % 1000:03}"
