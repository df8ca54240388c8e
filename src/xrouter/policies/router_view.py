"""What a routing language model reads of a conversation: all of it in its roles, with nothing in it that could be
taken for the router's own tools or for the end of a message.

Models that are called get the conversation as the client sent it; all changes here are the router's view alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..messages import Message, Request

SYSTEM_ROLES = ("system", "developer")

_CONTROL = re.compile(
    r"<(?=[|｜])"
    r"|<(?=/?(?:tool_calls?|tool_response|tools|function_call|functioncall|think|s|bos|eos|start_of_turn|"
    r"end_of_turn|start_header_id|end_header_id)>)"
    r"|<(?=/?function(?:=|>))"
    r"|\[(?=Note to the router)"
    r"|\[(?=/?(?:INST|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|SYSTEM_PROMPT)\])",
    re.IGNORECASE,
)
"""How control tokens of chat templates and tool-call formats begin. Servers read them in a message's text too."""

CUT_NOTE = "\n[... {} characters left out ...]\n"
SHORTEST_CUT = 200
"""Characters that are left of each long message however little room there is."""


def harmless(text: str) -> str:
    """The text with every control token broken by a space after its first character."""
    return _CONTROL.sub(lambda match: match[0] + " ", text)


def viewed(request: Request, *, max_characters: int, merged: bool = False) -> tuple[str, list[Message]]:
    """(the user's system prompts where `merged`, else nothing; the conversation).

    Tool calls and results of the client's own tools are told in words. Parts that are no text are named, not shown.
    Together the messages are about `max_characters` long at most: the longest are cut in the middle, with a note.
    """
    told = [_told(message) for message in request.messages]
    limit = _limit([len(text) for _, text in told], max_characters)
    told = [(role, cut(text, limit)) for role, text in told]
    system = [text for role, text in told if role == "system"] if merged else []
    rest: list[Message] = [
        {"role": role, "content": text} for role, text in told if text and not (merged and role == "system")
    ]
    return "\n\n".join(system), rest


def cut(text: str, limit: int) -> str:
    """Head and tail of a text that is longer than `limit`, and a note of what is missing."""
    if len(text) <= limit:
        return text
    head = limit - limit // 2
    return text[:head] + CUT_NOTE.format(len(text) - limit) + text[len(text) - limit // 2 :]


def client_tool_names(request: Request) -> list[str]:
    """Names of the tools that the client offers to whoever answers."""
    tools = request.params.get("tools")
    functions = request.params.get("functions")
    offered: Iterable[Any] = [
        *(
            tool.get("function")
            for tool in (tools if isinstance(tools, list) else ())
            if isinstance(tool, Mapping)
        ),
        *(functions if isinstance(functions, list) else ()),
    ]
    names = (function.get("name") for function in offered if isinstance(function, Mapping))
    return [name for name in names if isinstance(name, str)]


def _told(message: Message) -> tuple[str, str]:
    role = str(message.get("role"))
    text = _content(message.get("content"))
    if role in SYSTEM_ROLES:
        return "system", text
    if role in ("tool", "function"):
        name = message.get("name") or message.get("tool_call_id") or "a tool"
        return "user", f"[Result of the application's tool {harmless(str(name))}]\n{text}"
    calls = message.get("tool_calls")
    if role == "assistant" and isinstance(calls, list) and calls:
        said = "\n".join(_call_in_words(call) for call in calls)
        return "assistant", f"{text}\n{said}" if text else said
    return ("assistant" if role == "assistant" else "user"), text


def _call_in_words(call: Any) -> str:
    function = call.get("function") if isinstance(call, Mapping) else None
    function = function if isinstance(function, Mapping) else {}
    arguments = function.get("arguments")
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return harmless(f"[Called the application's tool {function.get('name')} with {written}]")


def _content(content: Any) -> str:
    if isinstance(content, str):
        return harmless(content)
    parts: Sequence[Any] = content if isinstance(content, list) else ()
    return "\n".join(_part(part) for part in parts if isinstance(part, Mapping))


def _part(part: Mapping[str, Any]) -> str:
    text = part.get("text")
    if isinstance(text, str):
        return harmless(text)
    return f"[{harmless(str(part.get('type') or 'something'))}: not shown to you, the models that you call get it]"


def _limit(lengths: Sequence[int], room: int) -> int:
    """The length at which to cut every message so that all of them have room together."""
    left, count = room, len(lengths)
    for length in sorted(lengths):
        share = left // max(1, count)
        if length > share:
            return max(share, SHORTEST_CUT)
        left, count = left - length, count - 1
    return max(lengths, default=0)
