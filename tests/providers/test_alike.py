"""Events that differ from one that was checked in their text alone."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from upstream import chunk_body, sse

from xrouter.episodes.transcript import Transcript
from xrouter.messages import Block, Request
from xrouter.providers.alike import Alike
from xrouter.providers.block_reader import SHAPES_TRIED, BlockReader

FIRST = chunk_body({"content": "Hello"})
ROLE = chunk_body({"role": "assistant", "content": ""})
STOP = chunk_body({}, finish_reason="stop")


def shape(data: Any) -> Alike | None:
    return Alike.of(sse(data).removesuffix(b"\n\n"), data)


def reader() -> BlockReader:
    return BlockReader(Request.from_text("Hi"), provider="p", model="m")


def shortcut(reads: list[bytes]) -> list[Block]:
    reading = reader()
    return [block for data in reads if (block := reading.feed(data)) is not None]


@given(st.text(st.characters(exclude_categories=("Cs",))), st.booleans())
def test_the_text_is_read_as_a_parser_reads_it(text: str, ascii_only: bool) -> None:
    alike = shape(FIRST)
    assert alike is not None
    data = chunk_body({"content": text})
    compact = json.dumps(data, ensure_ascii=ascii_only).encode()
    template = Alike.of(b"data: " + json.dumps(FIRST).encode(), FIRST)
    assert template is not None
    assert template.text_of(b"data: " + compact + b"\n\n") == text
    assert alike.text_of(sse(data)) == text


@given(st.binary(max_size=60))
def test_whatever_stands_in_the_place_of_the_text_is_a_json_string_or_refused(written: bytes) -> None:
    event = sse(FIRST).replace(b'"Hello"', b'"' + written + b'"')
    alike = shape(FIRST)
    assert alike is not None
    text = alike.text_of(event)
    try:
        expected = orjson.loads(event[6:])["choices"][0]["delta"]["content"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        assert text is None
    else:
        assert text in (None, expected)
        assert text == expected or b'"' in written


@pytest.mark.parametrize(
    "data",
    [
        STOP,
        {**FIRST, "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
        {**FIRST, "xrouter": {}},
        {**FIRST, "error": {"message": "no"}},
        {**FIRST, "choices": []},
        {**FIRST, "choices": [*FIRST["choices"], *FIRST["choices"]]},
        {**FIRST, "choices": [{**FIRST["choices"][0], "index": 1}]},
        chunk_body({"content": "x", "tool_calls": [{"index": 0}]}),
        chunk_body({"content": "x", "reasoning_content": "y"}),
        chunk_body({"content": None}),
        {**FIRST, "content": "twice"},
    ],
)
def test_an_event_that_says_more_than_a_text_is_no_pattern(data: Any) -> None:
    assert shape(data) is None


def test_a_member_that_only_looks_like_the_text_is_not_taken_for_it() -> None:
    line = b'data: {"a\\"content":"Hello","choices":[{"index":0,"delta":{"content"  :"Hello"},"finish_reason":null}]}'
    assert Alike.of(line, orjson.loads(line[6:])) is None


def test_a_stream_reads_alike_with_and_without_the_shortcut() -> None:
    texts = ["Hello", ' "quoted"', "\n", "", "Wörld", "\u2028", "end"]
    reads = [sse(ROLE), *(sse(chunk_body({"content": text})) for text in texts), sse(STOP)]
    blocks = shortcut(reads)
    assert [block.text for block in blocks] == [None, None, *texts[1:], None]
    assert [block.raw for block in blocks] == reads
    assert [data for block in blocks for data, _ in block.pieces] == [
        orjson.loads(read[6:]) for read in reads
    ]
    transcript = Transcript()
    for block in blocks:
        transcript.read(block)
    tally = reader()
    for read in reads:
        tally.feed(read + sse(chunk_body({"content": ""})))  # two events a read: parsed
    assert transcript.completion(tally.tally.usage(), 0.0).text == "".join(texts)


def test_what_is_counted_is_the_same() -> None:
    texts = ["Hello", " wörld", "!" * 50]
    alone, together = reader(), reader()
    for text in texts:
        alone.feed(sse(chunk_body({"content": text})))
    together.feed(b"".join(sse(chunk_body({"content": text})) for text in texts))
    assert alone.tally.usage() == together.tally.usage()


def test_a_shape_is_not_looked_for_without_end() -> None:
    reads = [sse({**chunk_body({"content": "x"}), "obfuscation": "z" * n}) for n in range(2 * SHAPES_TRIED)]
    assert all(block.text is None for block in shortcut(reads))
    assert shortcut([*reads, reads[-1], reads[-1]])[-1].text is None
    assert shortcut([*reads[: SHAPES_TRIED - 1], reads[0], reads[0]])[-1].text == "x"
