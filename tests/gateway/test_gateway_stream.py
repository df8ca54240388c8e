"""A whole completion cut into chunks says the same as the completion."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from xrouter.gateway.stream import chunks, event


def completion(message: dict[str, Any], **choice: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "small",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        "xrouter": {"cost_usd": "0"},
    }


@given(st.text(), st.booleans())
def test_any_text_survives(text: str, include_usage: bool) -> None:
    parts = list(chunks(completion({"role": "assistant", "content": text}), include_usage=include_usage))
    deltas = [choice["delta"] for part in parts for choice in part["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == text
    assert deltas[0]["role"] == "assistant"
    assert [bool(part.get("xrouter")) for part in parts] == [False] * (len(parts) - 1) + [True]
    assert ("usage" in parts[0]) == include_usage
    assert bool(parts[-1].get("usage")) == include_usage
    for part in parts:
        framed = event(part)
        assert framed.startswith(b"data: ")
        assert framed.endswith(b"\n\n")
        assert b"\n" not in framed[:-2], "a newline inside an event would end it"
        assert orjson.loads(framed[6:]) == part


def test_content_in_parts_is_streamed_as_its_text() -> None:
    message = {"role": "assistant", "content": [{"type": "text", "text": "hello there"}]}
    deltas = [part["choices"][0]["delta"] for part in chunks(completion(message), include_usage=False)]
    assert "".join(delta.get("content") or "" for delta in deltas) == "hello there"


def test_fields_beside_the_text_come_with_the_role() -> None:
    message = {"role": "assistant", "content": None, "refusal": "no", "reasoning_content": "hm"}
    first, *_ = chunks(completion(message), include_usage=False)
    assert first["choices"][0]["delta"] == {
        "role": "assistant",
        "content": None,
        "refusal": "no",
        "reasoning_content": "hm",
    }


def test_log_probabilities_stay_with_their_text() -> None:
    logprobs = {"content": [{"token": "a b", "logprob": -0.1, "bytes": None, "top_logprobs": []}]}
    whole = completion({"role": "assistant", "content": "a b"}, logprobs=logprobs)
    (choice,) = [
        part["choices"][0]
        for part in chunks(whole, include_usage=False)
        if part["choices"][0]["logprobs"] is not None
    ]
    assert choice["logprobs"] == logprobs
    assert choice["delta"] == {"content": "a b"}
