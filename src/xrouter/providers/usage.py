"""Token counts: as the upstream reports them, or estimated where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

import orjson

from ..messages import Message, Request, Usage, text_of

BYTES_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4


def usage_of(raw: object) -> Usage | None:
    """A Usage from OpenAI's `usage` object, or None where it is missing or has no token counts.

    Cached tokens are read from `prompt_tokens_details.cached_tokens`, DeepSeek's `prompt_cache_hit_tokens` or
    `cached_tokens`. Some upstreams count hidden reasoning in `total_tokens` only, beside `completion_tokens`:
    it is billed as output, so it is added to the completion here.
    """
    if not isinstance(raw, Mapping):
        return None
    prompt, completion = _count(raw, "prompt_tokens"), _count(raw, "completion_tokens")
    if prompt is None or completion is None:
        return None
    cached = (
        _count(raw.get("prompt_tokens_details"), "cached_tokens")
        or _count(raw, "prompt_cache_hit_tokens")
        or _count(raw, "cached_tokens")
        or 0
    )
    reasoning = _count(raw.get("completion_tokens_details"), "reasoning_tokens") or 0
    total = _count(raw, "total_tokens") or 0
    hidden = max(0, total - prompt - completion)
    if hidden:
        completion += hidden
        reasoning = max(reasoning, hidden)
    elif reasoning > completion:
        completion += reasoning
    return Usage(prompt, completion, min(cached, prompt), reasoning)


def estimate_tokens(text: str) -> int:
    """Tokens of a text, roughly: one for every four bytes of UTF-8."""
    return ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


def estimate_prompt_tokens(request: Request) -> int:
    """Tokens of a request's messages and tool definitions, roughly."""
    tokens = estimate_tokens(request.text) + TOKENS_PER_MESSAGE * len(request.messages)
    for message in request.messages:
        tokens += _json_tokens(message.get("tool_calls"))
    return tokens + _json_tokens(request.params.get("tools"))


def estimate_usage(request: Request, message: Message) -> Usage:
    """The usage of one call judged by its text alone, marked as estimated."""
    completion = estimate_tokens(text_of(message.get("content"))) + _json_tokens(message.get("tool_calls"))
    reasoning_text = message.get("reasoning_content")
    reasoning = estimate_tokens(reasoning_text) if isinstance(reasoning_text, str) else 0
    return Usage(estimate_prompt_tokens(request), completion + reasoning, 0, reasoning, estimated=True)


def usage_object(usage: Usage) -> dict[str, Any]:
    """The usage as OpenAI's JSON object."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _count(raw: object, name: str) -> int | None:
    value = raw.get(name) if isinstance(raw, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e15:
        return None
    return int(value)


def _json_tokens(value: object) -> int:
    if not value:
        return 0
    return ceil(len(orjson.dumps(value, default=str)) / BYTES_PER_TOKEN)
