"""What may be cached: pure functions of the request and of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..messages import Request
from .control import CacheControl

MAX_SEMANTIC_CHARACTERS = 4000
"""Longer messages are hardly asked twice in other words, and comparing words takes time."""

_WHOLE = ("stop", "tool_calls", "function_call")


def cacheable(request: Request, control: CacheControl) -> bool:
    """Whether an earlier answer may stand for this request's.

    A caller who sets a temperature above 0 or asks for several choices wants variety, and one who asks for a search of
    the web or another tool that the provider runs wants it fresh: none of these is cached unless `use` says so. A
    request that sets no temperature is cached.
    """
    if control.use is not None:
        return control.use
    params = request.params
    temperature = params.get("temperature")
    if isinstance(temperature, (int, float)) and temperature > 0:
        return False
    if (params.get("n") or 1) != 1 or params.get("web_search_options") is not None:
        return False
    tools = params.get("tools") or ()
    return all(isinstance(tool, Mapping) and tool.get("type", "function") == "function" for tool in tools)


def semantic_text(request: Request, max_turns: int) -> str | None:
    """The last user message, where the semantic cache may look at the request; else None.

    Never with tools or their results, nor with anything but text, nor after `max_turns` user messages, nor where
    the conversation does not end with the user, nor for a message of more than `MAX_SEMANTIC_CHARACTERS`.
    """
    params = request.params
    if params.get("tools") or params.get("functions"):
        return None
    users = 0
    for message in request.messages:
        role = message.get("role")
        if role in ("tool", "function") or message.get("tool_calls") or message.get("function_call"):
            return None
        if not _text_alone(message.get("content")):
            return None
        users += role == "user"
    if users > max_turns or request.messages[-1].get("role") != "user":
        return None
    text = request.query
    return text if 0 < len(text) <= MAX_SEMANTIC_CHARACTERS else None


def _text_alone(content: Any) -> bool:
    if isinstance(content, list):
        return all(isinstance(part, Mapping) and part.get("type") == "text" for part in content)
    return isinstance(content, str)


def storable(completion: Mapping[str, Any], degraded: str | None) -> bool:
    """Whether an answer is whole: every choice ended by itself and says something, and nothing was degraded."""
    choices = completion.get("choices")
    if degraded is not None or completion.get("error") is not None or not choices:
        return False
    for choice in choices:
        message = choice.get("message") or {}
        if choice.get("finish_reason") not in _WHOLE:
            return False
        if not (message.get("content") or message.get("tool_calls") or message.get("function_call")):
            return False
    return True
