from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrouter.errors import ProviderResponseError
from xrouter.providers.sse import SSEEvent, SSEParser


def parse(*pieces: bytes, max_line_bytes: int = 1 << 20) -> list[SSEEvent]:
    parser = SSEParser(max_line_bytes)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.finish()


def data_of(events: list[SSEEvent]) -> list[bytes]:
    return [event.data for event in events]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  two spaces\n\n", [b" two spaces"]),
        (b"data: one\ndata: two\n\n", [b"one\ntwo"]),
        (b": keep-alive\n\ndata: a\n\n: bye\n\n", [b"a"]),
        (b"id: 7\nretry: 10\nunknown: x\ndata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\n\n\n\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data\n\n", []),
        (b"data: a", [b"a"]),
        (b"data: a\n", [b"a"]),
        (b"data: a\r", [b"a"]),
        (b"data: x:y: z\n\n", [b"x:y: z"]),
        (b"data: \xff\xfe\n\n", [b"\xff\xfe"]),
        (b"data: a\xc2\x85b\xe2\x80\xa8c\x0bd\x0ce\x1cf\n\n", [b"a\xc2\x85b\xe2\x80\xa8c\x0bd\x0ce\x1cf"]),
        (b"", []),
    ],
)
def test_streams(stream: bytes, expected: list[bytes]) -> None:
    assert data_of(parse(stream)) == expected


def test_event_name_is_kept_for_its_event_only() -> None:
    assert parse(b"event: error\ndata: x\n\ndata: y\n\n") == [
        SSEEvent(b"x", b"error"),
        SSEEvent(b"y"),
    ]


def test_events_come_out_as_soon_as_they_are_whole() -> None:
    parser = SSEParser()
    assert parser.feed(b"data: a\n") == []
    assert data_of(parser.feed(b"\ndata: b")) == [b"a"]
    assert data_of(parser.feed(b"\n\n")) == [b"b"]
    assert parser.finish() == []


@pytest.mark.parametrize("data", [b"[DONE]", b" [DONE] "])
def test_done_mark(data: bytes) -> None:
    assert SSEEvent(data).is_done
    assert not SSEEvent(b'{"text":"[DONE]"}').is_done


@pytest.mark.parametrize(
    "pieces",
    [
        (b"data: " + b"x" * 100 + b"\n\n",),
        (b"data: " + b"x" * 100,),
        tuple(b"x" for _ in range(100)),
        tuple(b"data: xxxxxxxx\n" for _ in range(20)),
    ],
)
def test_too_long_is_an_error(pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(ProviderResponseError, match="more than 64 bytes"):
        parse(*pieces, max_line_bytes=64)


def test_a_line_of_exactly_the_limit_passes() -> None:
    assert data_of(parse(b"data: " + b"x" * 58 + b"\r\n\r\n", max_line_bytes=64)) == [b"x" * 58]


LINES = st.sampled_from(
    [
        b"data: {}", b"data:", b"data: [DONE]", b": comment", b"event: error", b"", b"", b"id: 1",
        b"data: \xc3\xa9", b"nonsense", b"\xef\xbb\xbfdata: bom",
    ]
)  # fmt: skip
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(st.lists(st.tuples(LINES, ENDS), max_size=12), st.binary(max_size=6), st.lists(st.integers(0, 200)))
def test_any_split_gives_the_same_events(
    lines: list[tuple[bytes, bytes]], tail: bytes, cuts: list[int]
) -> None:
    stream = b"".join(line + end for line, end in lines) + tail
    places = sorted({min(cut, len(stream)) for cut in cuts})
    bounds = [0, *places, len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(bounds)]
    whole = parse(stream)
    assert parse(*pieces) == whole
    assert parse(*(stream[i : i + 1] for i in range(len(stream)))) == whole


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(stream: bytes) -> None:
    for event in parse(stream):
        assert event.data


@given(st.lists(st.binary(min_size=1, max_size=30).filter(lambda b: not set(b) & {10, 13})), ENDS)
def test_what_was_framed_comes_back(payloads: list[bytes], end: bytes) -> None:
    stream = b"".join(b"data: " + payload + end + end for payload in payloads)
    assert data_of(parse(stream)) == payloads
