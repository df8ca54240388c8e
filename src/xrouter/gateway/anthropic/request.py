"""The body of a Messages request: bytes in, the same request as a chat out. Every refusal names the field.

A field that this API does not have is refused, as Anthropic's own server does. What is taken and has no counterpart
is listed in `_WITHOUT_EFFECT`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import RequestError
from ...providers.usage import estimate_prompt_tokens
from ..checks import (
    Checks,
    check_fields,
    decode,
    integer,
    list_of,
    model_name,
    number,
    of,
    one_of,
    text,
    wrong,
)
from ..wire import Chat, chat_of
from .content import chat_messages
from .tools import tool_fields

TOKENS_PER_IMAGE = 1_600
"""About what an image of the largest size that is not scaled down costs in Anthropic's own count."""

MEDIUM_EFFORT_FROM = 4_096
HIGH_EFFORT_FROM = 16_384
"""Thinking budgets, in tokens, from which on a medium and a high reasoning effort are asked for."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A checked request. `thinking`: the client wants to see the model think."""

    chat: Chat
    thinking: bool
    stop_sequences: tuple[str, ...]


def parse(body: bytes) -> Asked:
    """Raises RequestError, with `param` set to the field at fault where there is one."""
    return _asked(decode(body), counting=False)


def count_tokens(body: bytes) -> dict[str, int]:
    """The answer to /v1/messages/count_tokens: an estimate, since which model will read the prompt is still open.

    One token for every four bytes of text, and `TOKENS_PER_IMAGE`. Raises RequestError as `parse` does.
    """
    request = _asked(decode(body), counting=True).chat.request
    parts = [
        part
        for message in request.messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
    ]
    images = sum(part["type"] == "image_url" for part in parts)
    return {"input_tokens": estimate_prompt_tokens(request) + images * TOKENS_PER_IMAGE}


def _asked(data: Mapping[str, Any], *, counting: bool) -> Asked:
    model = model_name(data)
    unknown = [name for name in data if name not in _KNOWN]
    if unknown:
        raise RequestError(
            f"{unknown[0]} is not a field of this API that is served here; leave it out", param=unknown[0]
        )
    if not counting and data.get("max_tokens") is None:
        raise RequestError("max_tokens is missing: say how long the answer may be", param="max_tokens")
    check_fields(data, _CHECKS)
    stream = bool(data.get("stream"))
    body: dict[str, Any] = {
        "model": model,
        "messages": chat_messages(data),
        "stream": stream,
        **{name: data[name] for name in _SAME if data.get(name) is not None},
        **tool_fields(data),
        **_reasoning(data),
        **_format(data),
    }
    if stream:
        body["stream_options"] = {"include_usage": True}
    stops = tuple(data.get("stop_sequences") or ())
    if stops:
        body["stop"] = list(stops)
    user = (data.get("metadata") or {}).get("user_id")
    if user is not None:
        if not isinstance(user, str):
            raise wrong("metadata.user_id", "a string", user)
        body["user"] = user
    thinking = data.get("thinking") or {}
    shown = thinking.get("type", "disabled") != "disabled" and thinking.get("display") != "omitted"
    return Asked(chat_of(body), shown, stops)


def _reasoning(data: Mapping[str, Any]) -> dict[str, Any]:
    """The reasoning effort: the one asked for, else one that goes with the thinking budget."""
    thinking, effort = data.get("thinking") or {}, (data.get("output_config") or {}).get("effort")
    check_fields(thinking, _THINKING, prefix="thinking.")
    check_fields({"effort": effort}, {"effort": (text, "a word such as 'high'")}, prefix="output_config.")
    if thinking and "type" not in thinking:
        raise RequestError("thinking.type is missing", param="thinking.type")
    if thinking.get("type") == "enabled":
        budget = thinking.get("budget_tokens")
        if budget is None:
            raise RequestError(
                "thinking.budget_tokens is missing: thinking of type 'enabled' needs it",
                param="thinking.budget_tokens",
            )
        effort = effort or (
            "high" if budget >= HIGH_EFFORT_FROM else "medium" if budget >= MEDIUM_EFFORT_FROM else "low"
        )
    return {"reasoning_effort": effort} if effort else {}


def _format(data: Mapping[str, Any]) -> dict[str, Any]:
    wanted = (data.get("output_config") or {}).get("format")
    if wanted is None:
        return {}
    param = "output_config.format"
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        raise RequestError(f"{param} must be an object of type 'json_schema'", param=param)
    if not isinstance(wanted.get("schema"), dict):
        raise wrong(f"{param}.schema", "a JSON schema", wanted.get("schema"))
    schema = {"name": "answer", "schema": wanted["schema"], "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


_SAME = ("max_tokens", "temperature", "top_p", "top_k", "xrouter")
_WITHOUT_EFFECT = (
    "cache_control",  # upstreams cache prompts by themselves; the prompt stays the same from turn to turn
    "context_management",
    "diagnostics",
    "service_tier",
    "speed",
)
_CHECKS: Checks = {
    "max_tokens": (integer(1), "a positive integer"),
    "temperature": (number(0, 1), "a number from 0 to 1"),
    "top_p": (number(0, 1), "a number from 0 to 1"),
    "top_k": (integer(0), "an integer from 0"),
    "stream": (of(bool), "true or false"),
    "stop_sequences": (list_of(str), "a list of strings"),
    "metadata": (of(dict), "an object"),
    "thinking": (of(dict), "an object"),
    "output_config": (of(dict), "an object"),
    "xrouter": (of(dict), "an object"),
}
_THINKING: Checks = {
    "type": (
        one_of("enabled", "disabled", "adaptive", "between_tools"),
        "'enabled', 'disabled', 'adaptive' or 'between_tools'",
    ),
    "budget_tokens": (integer(1), "a positive integer"),
    "display": (one_of("summarized", "omitted"), "'summarized' or 'omitted'"),
}
_KNOWN = frozenset(
    {"model", "messages", "system", "tools", "tool_choice", *_SAME, *_CHECKS, *_WITHOUT_EFFECT}
)
