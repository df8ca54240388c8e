"""llama.cpp's streamed pieces <-> one completion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..catalog.model import Model
from ..errors import ProviderResponseError
from ..messages import Chunk, Completion
from .usage import usage_object, usage_of


def collect(model: Model, chunks: Sequence[Mapping[str, Any]]) -> Completion:
    """The streamed pieces put together, with the body that an endpoint would have answered with."""
    usage = next((found for chunk in reversed(chunks) if (found := usage_of(chunk.get("usage")))), None)
    if usage is None:
        raise ProviderResponseError("llama.cpp ended without a count of tokens", model=model.name)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    deltas = [choice.get("delta") or {} for choice in choices]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(delta.get("content") or "" for delta in deltas),
    }
    if reasoning := "".join(delta.get("reasoning_content") or "" for delta in deltas):
        message["reasoning_content"] = reasoning
    if calls := _tool_calls(deltas):
        message["tool_calls"] = calls
    finish = next((c["finish_reason"] for c in reversed(choices) if c.get("finish_reason")), "stop")
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": finish}
    logprobs = [c["logprobs"] for c in choices if c.get("logprobs")]
    if logprobs:
        choice["logprobs"] = {"content": [token for part in logprobs for token in part["content"]]}
    last = chunks[-1]
    raw = {**under_own_name(last, model), "object": "chat.completion", "choices": [choice]}
    return Completion(message=message, usage=usage, finish_reason=finish, served_model=model.id, raw=raw)


def _tool_calls(deltas: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    calls: dict[int, dict[str, Any]] = {}
    for piece in (piece for delta in deltas for piece in delta.get("tool_calls") or ()):
        function = piece.get("function") or {}
        call = calls.setdefault(
            piece.get("index", 0),
            {"id": "", "type": "function", "function": {"name": "", "arguments": ""}},
        )
        call["id"] += piece.get("id") or ""
        for key in ("name", "arguments"):
            call["function"][key] += function.get(key) or ""
    return list(calls.values())


def under_own_name(data: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """The object under the model's id instead of the weights' path."""
    return {**{key: value for key, value in data.items() if key != "timings"}, "model": model.id}


def as_chunks(completion: Completion) -> list[Chunk]:
    head = {**completion.raw, "object": "chat.completion.chunk"}
    head.pop("usage", None)
    last = {"index": 0, "delta": {}, "finish_reason": completion.finish_reason}
    text = {"index": 0, "delta": dict(completion.message), "finish_reason": None}
    counts = usage_object(completion.usage)
    return [
        Chunk({**head, "choices": [text]}),
        Chunk({**head, "choices": [last]}),
        Chunk({**head, "choices": [], "usage": counts}, completion.usage),
    ]
