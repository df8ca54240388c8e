"""Answers, models and errors in the shapes of Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ...catalog.model import Model
from ...errors import XRouterError
from ...messages import Usage
from ..deltas import ChunkReader, id_with
from .blocks import Blocks
from .request import Asked


def message(asked: Asked, completion: Mapping[str, Any]) -> dict[str, Any]:
    """A message for a chat.completion object. Reasoning is shown only where the request has thinking on."""
    reader, blocks = ChunkReader(), Blocks(thinking=asked.thinking)
    deltas = reader.read_whole(completion)
    for _ in (*blocks.add(deltas), *blocks.end()):
        pass
    return {
        **head(reader.id, reader.model),
        "content": blocks.content(),
        **ending(reader, blocks, asked.stop_sequences),
        "usage": {"service_tier": "standard", **usage_object(reader.usage)},
        "xrouter": reader.xrouter,
    }


def head(completion_id: str, model: str) -> dict[str, Any]:
    return {
        "id": id_with("msg_", completion_id),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def ending(reader: ChunkReader, blocks: Blocks, stop_sequences: Sequence[str]) -> dict[str, Any]:
    """Why the answer ended. A stop sequence is named only where the upstream says which it was."""
    finish = reader.finish_reason or "stop"
    if blocks.calls_tools and finish in ("stop", "tool_calls", "function_call"):
        reason = "tool_use"
    elif reader.refused:
        reason = "refusal"
    else:
        reason = _STOP_REASONS.get(finish, "end_turn")
    if reason == "end_turn" and reader.matched_stop is not None and reader.matched_stop in stop_sequences:
        return {"stop_reason": "stop_sequence", "stop_sequence": reader.matched_stop}
    return {"stop_reason": reason, "stop_sequence": None}


def usage_object(usage: Usage) -> dict[str, Any]:
    """Tokens as this API counts them: those read from a cache beside the input, not in it."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def error_body(error: XRouterError, request_id: str) -> dict[str, Any]:
    kind = _ERROR_TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": error.message},
        "request_id": request_id,
    }


def model_page(models: Iterable[Model], presets: Iterable[str], created: int) -> dict[str, Any]:
    """GET /v1/models for a client of this API: the policy, its presets, every model of the pool, on one page."""
    created_at = datetime.fromtimestamp(created, UTC).isoformat().replace("+00:00", "Z")

    def info(name: str, window: int | None = None, longest: int | None = None) -> dict[str, Any]:
        return {
            "type": "model",
            "id": name,
            "display_name": name,
            "created_at": created_at,
            "lifecycle": "active",
            "max_input_tokens": window,
            "max_tokens": longest,
        }

    data = [info(name) for name in ("xrouter", *(f"xrouter:{preset}" for preset in presets))]
    data += [info(model.name, model.context_window, model.max_output_tokens) for model in models]
    return {"data": data, "has_more": False, "first_id": data[0]["id"], "last_id": data[-1]["id"]}


_STOP_REASONS: Mapping[str, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_ERROR_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
