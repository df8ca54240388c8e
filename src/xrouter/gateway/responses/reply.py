"""Answers in the shape of OpenAI's Responses API. Its errors are those of chat completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import XRouterError
from ...messages import Usage
from ..deltas import ChunkReader, id_with
from .items import Items
from .request import Asked

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def response(asked: Asked, completion: Mapping[str, Any]) -> dict[str, Any]:
    """A response for a chat.completion object."""
    reader = ChunkReader()
    deltas = reader.read_whole(completion)
    items = Items(id_with("", reader.id), logprobs=asked.logprobs)
    for _ in (*items.add(deltas), *items.end(status(reader))):
        pass
    return finished(asked, reader, items)


def status(reader: ChunkReader) -> str:
    return "incomplete" if reader.finish_reason in _INCOMPLETE else "completed"


def finished(asked: Asked, reader: ChunkReader, items: Items) -> dict[str, Any]:
    reason = _INCOMPLETE.get(reader.finish_reason or "")
    return {
        **begun(asked, reader),
        "status": status(reader),
        "incomplete_details": {"reason": reason} if reason else None,
        "output": items.output(),
        "usage": usage_object(reader.usage),
        "xrouter": reader.xrouter,
    }


def begun(asked: Asked, reader: ChunkReader) -> dict[str, Any]:
    """The response as it is when the first chunk has come."""
    return {
        "id": id_with("resp_", reader.id),
        "object": "response",
        "created_at": reader.created or 0,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": reader.model or asked.chat.model,
        "output": [],
        "usage": None,
        **asked.echo,
    }


def usage_object(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def failure(error: XRouterError) -> dict[str, Any]:
    """The `error` of a response that failed, with one of the few codes this API has."""
    if error.status == 429:
        code = "rate_limit_exceeded"
    else:
        code = "server_error" if error.status >= 500 else "invalid_prompt"
    return {"code": code, "message": error.message}
