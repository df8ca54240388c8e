"""Server-sent events: a whole completion cut into OpenAI's chunks, and the framing of each event."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from ..messages import text_of

DONE = b"data: [DONE]\n\n"

_PIECE = re.compile(r"\S{1,64}\s*|\s+")
"""A word with the white space after it; a very long word comes in several pieces."""

_IN_ORDER = ("role", "content", "tool_calls")


def event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


def named_event(data: Mapping[str, Any]) -> bytes:
    """An event that also bears the name of its `type`, as Anthropic's API and OpenAI's Responses have it."""
    return b"event: %s\n%s" % (str(data["type"]).encode(), event(data))


def chunks(completion: Mapping[str, Any], *, include_usage: bool) -> Iterator[dict[str, Any]]:
    """The chunks of a chat.completion object that `reply.chat_completion` made.

    Role first, then text, tool calls and the finish reason of each choice. `xrouter` rides on the last chunk: the
    usage chunk if the client asked for one, else the chunk that ends the last choice.
    """
    head = {
        name: value
        for name, value in completion.items()
        if name not in ("choices", "usage", "xrouter", "object")
    }
    head["object"] = "chat.completion.chunk"
    if include_usage:
        head["usage"] = None
    last: dict[str, Any] = {}
    for index, choice in enumerate(completion["choices"]):
        for part in _choice_chunks(index, choice):
            if last:
                yield last
            last = {**head, "choices": [part]}
    if include_usage:
        yield last
        last = {**head, "choices": [], "usage": completion["usage"]}
    yield {**last, "xrouter": completion["xrouter"]}


def _choice_chunks(index: int, choice: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    message, logprobs = choice["message"], choice.get("logprobs")

    def part(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}

    content = text_of(message.get("content"))
    first = {name: value for name, value in message.items() if name not in _IN_ORDER and value is not None}
    yield part({"role": "assistant", "content": "" if content else None, **first})
    if logprobs is not None:
        # Log probabilities are listed by token, so the text they belong to stays in one piece.
        yield {**part({"content": content} if content else {}), "logprobs": logprobs}
    elif content:
        for piece in _PIECE.findall(content):
            yield part({"content": piece})
    for i, call in enumerate(message.get("tool_calls") or ()):
        yield part({"tool_calls": [{"index": i, **call}]})
    yield part({}, choice.get("finish_reason") or "stop")
