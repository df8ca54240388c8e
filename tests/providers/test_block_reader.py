from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upstream import chunk_body, sse

from xrouter.errors import ProviderResponseError, ProviderUnavailableError
from xrouter.messages import Block, Request, Usage
from xrouter.providers.block_reader import BlockReader
from xrouter.providers.usage import estimate_usage

HELLO = Request.from_text("Say hello")
PIECES = [chunk_body({"content": text}) for text in ("Héllo", " \u2028wörld", "\n\ndata: {no event}", "")]
STOP = chunk_body({}, finish_reason="stop")
COUNTS = {**chunk_body({}), "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
ERROR = {"error": {"message": "overloaded", "type": "server_error"}}
DONE = b"data: [DONE]\n\n"


def reader(**options: Any) -> BlockReader:
    return BlockReader(HELLO, provider="p", model="m", **options)


def read(reads: Sequence[bytes], reading: BlockReader | None = None) -> list[Block]:
    """What a stream that ends after these reads brings."""
    reading = reading or reader()
    blocks: list[Block | None] = []
    for data in reads:
        if reading.done:
            break
        blocks.append(reading.feed(data))
    blocks.append(reading.finish())
    blocks.append(reading.end())
    return [block for block in blocks if block is not None]


def objects(blocks: Sequence[Block]) -> list[Any]:
    return [data for block in blocks for data, _ in block.pieces]


def cut(stream: bytes, at: Sequence[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in at)})
    return [stream[a:b] for a, b in pairwise(edges)]


def framed(data: Any, style: str) -> bytes:
    text = json.dumps(data, ensure_ascii=False).encode()
    return {
        "plain": b"data: " + text + b"\n\n",
        "crlf": b"data: " + text + b"\r\n\r\n",
        "cr": b"data: " + text + b"\r\r",
        "no space": b"data:" + text + b"\n\n",
        "named": b"event: message\nid: 1\ndata: " + text + b"\n\n",
        "comment": b": keep-alive\n\ndata: " + text + b"\n\n",
        "lines": b"data: " + json.dumps(data, indent=1).replace("\n", "\ndata: ").encode() + b"\n\n",
        "blank": b"\n\ndata: " + text + b"\n\n\n",
    }[style]


STYLES = ["plain", "crlf", "cr", "no space", "named", "comment", "lines", "blank"]


@given(
    st.lists(st.sampled_from(STYLES), min_size=6, max_size=6),
    st.lists(st.integers(0, 5000), max_size=12),
    st.booleans(),
)
def test_however_it_is_framed_and_cut_the_same_comes_out(
    styles: list[str], cuts: list[int], marked: bool
) -> None:
    sent = [*PIECES, STOP, COUNTS]
    stream = b"".join(framed(data, style) for data, style in zip(sent, styles, strict=True))
    blocks = read(cut(stream + (DONE if marked else b""), cuts))
    assert objects(blocks) == sent
    assert blocks[-1].usage == Usage(3, 4)
    assert sum(block.finished for block in blocks) == 1
    raw = b"".join(block.raw for block in blocks)
    lines = raw.split(b"\n\n")
    assert lines.pop() == b""
    assert [json.loads(line.removeprefix(b"data: ")) for line in lines] == sent


@given(st.lists(st.binary(max_size=40), max_size=30))
def test_any_bytes_end_in_blocks_or_a_provider_error(reads: list[bytes]) -> None:
    try:
        blocks = read(reads)
    except ProviderResponseError:
        return
    assert blocks


def test_plain_bytes_pass_as_they_came() -> None:
    whole = b"".join(framed(data, "plain") for data in PIECES)
    block = reader().feed(whole)
    assert block is not None
    assert block.raw == whole
    assert len(block.chunks) == len(PIECES)


def test_several_events_of_one_read_come_as_one_block() -> None:
    blocks = read([b"".join(sse(data) for data in [*PIECES, STOP, COUNTS]) + DONE])
    assert len(blocks) == 1
    assert [chunk.usage for chunk in blocks[0].chunks] == [None] * 5 + [Usage(3, 4)]


def test_after_the_end_mark_nothing_counts() -> None:
    blocks = read([sse(PIECES[0]) + DONE + sse(ERROR)])
    assert objects(blocks)[:1] == [PIECES[0]]


@pytest.mark.parametrize(
    "bad", [b'data: {"choices": [{"del\n\n', b"data: [1]\n\n", b'data: {"a":}\n\n', b"data: {x}\n\n"]
)
@pytest.mark.parametrize("together", [True, False])
def test_what_came_before_a_bad_event_is_handed_over_first(bad: bytes, together: bool) -> None:
    reading = reader()
    good = sse(PIECES[0])
    block = reading.feed(good + bad) if together else reading.feed(good)
    assert block is not None
    assert objects([block]) == [PIECES[0]]
    assert block.raw == good
    assert reading.failed is together
    with pytest.raises(ProviderResponseError) as caught:
        reading.feed(bad)
    assert caught.value.model == "m"


def test_an_error_object_is_raised_in_its_place_without_its_secrets() -> None:
    reading = reader(secrets=("sk-hush-hush",))
    assert reading.feed(sse(PIECES[0])) is not None
    with pytest.raises(ProviderUnavailableError) as caught:
        reading.feed(sse({"error": {"message": "bad key sk-hush-hush", "type": "server_error"}}))
    assert "sk-hush" not in caught.value.message


def test_words_in_the_text_are_not_taken_for_marks() -> None:
    text = '"usage": {"prompt_tokens": 9, "completion_tokens": 9}, "error": {"x": 1}, "finish_reason": "stop" [DONE]'
    (block,) = (reader().feed(sse(chunk_body({"content": text}))),)
    assert block is not None
    assert block.usage is None
    assert not block.finished


@pytest.mark.parametrize("tail", [b"", b"data: {", sse(chunk_body({"content": "x"}))])
def test_a_stream_cut_short_says_so(tail: bytes) -> None:
    with pytest.raises(ProviderResponseError):
        read([sse(PIECES[0]), tail])


def test_an_endless_line_is_refused() -> None:
    reading = reader(max_line_bytes=1 << 20)
    with pytest.raises(ProviderResponseError, match="1048576 bytes"):
        read([b"data: ", *[b"x" * 65_536] * 160], reading)


@given(
    st.lists(st.tuples(st.sampled_from(["content", "reasoning_content"]), st.text(max_size=30)), min_size=1)
)
def test_missing_usage_is_estimated_as_of_the_whole_text(pieces: list[tuple[str, str]]) -> None:
    calls = [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]
    deltas = [{name: text} for name, text in pieces] + [{"tool_calls": calls}]
    blocks = read([sse(chunk_body(delta)) for delta in deltas] + [sse(STOP)])
    whole = {
        name: "".join(text for kind, text in pieces if kind == name)
        for name in ("content", "reasoning_content")
    }
    assert blocks[-1].usage == estimate_usage(HELLO, {**whole, "tool_calls": calls})
    assert blocks[-1].pieces[0][0]["choices"] == []
