"""Any bytes: readers of bodies raise RequestError and nothing else, and how bytes are split never matters.

HYPOTHESIS_MAX_EXAMPLES sets more cases for a long run by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from conftest import make_model
from faults_kit import CHAT, JUNK, MESSAGES, RESPONSES, body_for, mutant
from hypothesis import given, settings
from hypothesis import strategies as st
from upstream import chunk_bodies, completion_body, sse

from xrouter.episodes.budget import fit_budget
from xrouter.episodes.calls import PlannedCall
from xrouter.errors import ProviderError, RequestError, XRouterError
from xrouter.gateway.app import APIS
from xrouter.gateway.controls import WISHES
from xrouter.gateway.embeddings import parse_embeddings
from xrouter.messages import Request
from xrouter.providers.block_reader import BlockReader
from xrouter.providers.sse import SSEEvent, SSEParser
from xrouter.settings import Settings
from xrouter.wishes import preference

CASES = int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", "150"))
fuzz = settings(max_examples=CASES, deadline=None)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
RICH: dict[str, dict[str, Any]] = {
    CHAT: body_for(
        CHAT,
        stream=True,
        stream_options={"include_usage": True},
        n=2,
        tools=[TOOL],
        stop=["a"],
        logit_bias={"1": 2},
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
        messages=[
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}],
            },
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {}}]},
            {"role": "tool", "tool_call_id": "1", "content": "x"},
        ],
        xrouter={"models": ["a"], "max_cost_usd": "1", "cache": {}},
    ),
    RESPONSES: body_for(
        RESPONSES,
        stream=True,
        instructions="be brief",
        tools=[{"type": "function", "name": "f", "parameters": {}}],
        tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        text={"format": {"type": "json_schema", "name": "a", "schema": {}}, "verbosity": "low"},
        reasoning={"effort": "low"},
        include=["message.output_text.logprobs"],
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "a"}]},
            {"type": "reasoning", "summary": []},
        ],
    ),
    MESSAGES: body_for(
        MESSAGES,
        stream=True,
        system=[{"type": "text", "text": "a"}],
        tools=[{"name": "f", "input_schema": {"type": "object"}}],
        tool_choice={"type": "tool", "name": "f"},
        thinking={"type": "enabled", "budget_tokens": 1024},
        stop_sequences=["a"],
        metadata={"user_id": "u"},
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": {}}},
        messages=[
            {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://a"}}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "x"}]},
        ],
    ),
}


def parsed_or_refused(path: str, body: bytes) -> None:
    """What is taken must also be answerable: its errors can be said in every shape."""
    refusal = None
    try:
        exchange = APIS[path].parse(body)
    except RequestError as error:
        refusal = error
    if refusal is not None:
        assert 400 <= refusal.status < 500
        assert refusal.message
        json.dumps(APIS[path].error(refusal, "r"))
        return
    assert exchange.chat.request.messages
    assert isinstance(exchange.chat.request.query, str)


@pytest.mark.parametrize("path", APIS)
@fuzz
@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")))
def test_any_body(path: str, body: bytes) -> None:
    parsed_or_refused(path, body)


@pytest.mark.parametrize("path", APIS)
@fuzz
@given(st.randoms(use_true_random=False), st.integers(1, 5))
def test_mutants_of_a_rich_body(path: str, chance: Any, changes: int) -> None:
    APIS[path].parse(json.dumps(RICH[path]).encode())
    parsed_or_refused(path, json.dumps(mutant(RICH[path], chance, changes)).encode())


@pytest.mark.parametrize("path", APIS)
def test_every_field_with_every_kind_of_junk(path: str) -> None:
    for name in RICH[path]:
        for junk in JUNK:
            parsed_or_refused(path, json.dumps({**RICH[path], name: junk}).encode())


@fuzz
@given(JSON)
def test_any_body_of_embeddings(value: Any) -> None:
    for body in (value, {"model": "m", "input": value}, {"model": "m", "input": "a", "xrouter": value}):
        with contextlib.suppress(RequestError):
            parse_embeddings(json.dumps(body).encode("utf-8", "surrogatepass"))


# Streams

LINES = st.sampled_from(
    [
        b"data: 1",
        b"data:",
        b"data",
        b": comment",
        b"event: x",
        b"id: 3",
        b"retry: 1",
        b"",
        b"",
        b"\xff\xfe",
        b"data: [DONE]",
        b"\xef\xbb\xbfdata: 2",
    ]
)
STREAMS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=20).map(
    lambda lines: b"".join(line + end for line, end in lines)
) | st.binary(max_size=80)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


def events(pieces: Sequence[bytes]) -> list[SSEEvent]:
    parser = SSEParser()
    return [*(event for piece in pieces for event in parser.feed(piece)), *parser.finish()]


@fuzz
@given(STREAMS, st.lists(st.integers(0, 500), max_size=8))
def test_how_an_event_stream_is_split_does_not_matter(data: bytes, places: list[int]) -> None:
    assert events(cut(data, places)) == events([data])


def blocks(pieces: Sequence[bytes]) -> tuple[list[Any], str | None]:
    """What a stream of chunks says, and the error it ends with."""
    reader = BlockReader(Request.from_text("hi"), provider="p", model="m")
    said: list[Any] = []
    try:
        for piece in pieces:
            if reader.done:
                break
            block = reader.feed(piece)
            said += [] if block is None else [data for data, _ in block.pieces]
        for block in (reader.finish(), reader.end()):
            said += [] if block is None else [data for data, _ in block.pieces]
    except ProviderError as error:
        return [chunk for chunk in said if chunk.get("choices")], type(error).__name__
    return [chunk for chunk in said if chunk.get("choices")], None


@fuzz
@given(
    st.randoms(use_true_random=False),
    st.integers(0, 3),
    st.lists(st.integers(0, 3000), max_size=8),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_how_a_stream_of_chunks_is_split_does_not_matter(
    chance: Any, changes: int, places: list[int], end: bytes
) -> None:
    """Good streams and mutants of them: the same chunks and the same error, whole or in pieces."""
    chunks = mutant(chunk_bodies(completion_body("one two three")), chance, changes)
    data = b"".join(sse(json.dumps(chunk)) for chunk in chunks) + sse("[DONE]")
    data = data.replace(b"\n", end)
    assert blocks(cut(data, places)) == blocks([data])


@fuzz
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_any_bytes_from_an_upstream(data: bytes, places: list[int]) -> None:
    for stream in (data, b"data: " + data + b"\n\n", b"data: {" + data + b"}\n\ndata: [DONE]\n\n"):
        try:
            blocks(cut(stream, places))
        except XRouterError as error:  # pragma: no cover
            pytest.fail(f"{type(error).__name__} is no ProviderError")


@fuzz
@given(st.sampled_from([*WISHES]), JSON | st.sampled_from(JUNK) | st.floats(0) | st.decimals(0).map(str))
def test_any_wish(name: str, value: Any) -> None:
    """What is taken can be reckoned with: shared out, compared, written."""
    with contextlib.suppress(RequestError):
        wanted = preference(Settings(), **{name: value})
        cap = wanted.max_cost_usd
        if cap is not None:
            call = PlannedCall("c1", make_model(), Request.from_text("hi"), Decimal("0.001"))
            fit_budget([call, call], cap)
            assert cap <= Decimal(str(value))
