"""Answers of any shape, and any cut of one into chunks."""

from __future__ import annotations

import json
from typing import Any

from api_kit import completion
from hypothesis import strategies as st
from upstream import chunk_body

USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 9,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 4},
}

ARGUMENTS = st.dictionaries(
    st.text(max_size=3), st.integers(-(2**53), 2**53) | st.text(max_size=5), max_size=3
)


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    """A whole chat.completion object."""
    calls = [
        {
            "id": f"call_{i}",
            "type": "function",
            "function": {"name": f"f{i}", "arguments": json.dumps(arguments)},
        }
        for i, arguments in enumerate(draw(st.lists(ARGUMENTS, max_size=3)))
    ]
    return completion(
        text=draw(st.none() | st.text(max_size=20)),
        usage=USAGE,
        finish_reason=draw(st.sampled_from(["stop", "length", "content_filter", "tool_calls"])),
        tool_calls=calls or None,
        reasoning_content=draw(st.none() | st.text(max_size=10)),
        refusal=draw(st.none() | st.text(max_size=10)),
    )


@st.composite
def cuts(draw: st.DrawFn, whole: dict[str, Any]) -> list[dict[str, Any]]:
    """The answer in chunks: texts in pieces, the arguments of parallel calls in pieces and in turn."""
    message = whole["choices"][0]["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    for name in ("reasoning_content", "content", "refusal"):
        deltas += [{name: piece} for piece in _pieces(draw, message.get(name) or "")]
    queues: list[list[dict[str, Any]]] = []
    for i, call in enumerate(message.get("tool_calls") or ()):
        first = {"index": i, **call, "function": {**call["function"], "arguments": ""}}
        rest = [
            {"index": i, "function": {"arguments": piece}}
            for piece in _pieces(draw, call["function"]["arguments"])
        ]
        queues.append([first, *rest])
    begun = 0
    while any(queues):
        ready = [k for k in range(begun + 1) if k < len(queues) and queues[k]]
        k = draw(st.sampled_from(ready))
        begun = max(begun, k + 1)
        deltas.append({"tool_calls": [queues[k].pop(0)]})
    chunks = [chunk_body(delta) for delta in deltas]
    chunks.append(chunk_body({}, finish_reason=whole["choices"][0]["finish_reason"]))
    chunks.append({**chunk_body({}), "choices": [], "usage": whole["usage"], "xrouter": whole["xrouter"]})
    return [{**chunk, "id": whole["id"]} for chunk in chunks]


def _pieces(draw: st.DrawFn, text: str) -> list[str]:
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4))) if text else []
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)] if text else []
