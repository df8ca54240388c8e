"""The mock upstream: chat completions, whole or as a paced stream, from bytes made beforehand.

    python -m benchmarks.gateway.upstream --chunks 64 --interval-ms 20

Prints its port, then serves until it is killed. It must never be what limits a contestant, so it reads no more of a
request than whether it asks for a stream. Each chunk of a stream carries the moment it was written, as `@` and sixteen
digits of microseconds on the machine's monotonic clock, so that a client on the same machine can tell its delay.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any, cast

import httptools
import uvloop

STAMP = b"@%016d"
STAMP_PATTERN = rb"@(\d{16})"

_USAGE = {"prompt_tokens": 120, "completion_tokens": 64, "total_tokens": 184}
_WANTS_STREAM = (b'"stream":true', b'"stream": true')
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_END = b"0\r\n\r\n"


def whole_answer() -> bytes:
    """The response to every request that asks for no stream."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "It is fifteen. The answer is 15."},
        "logprobs": None,
        "finish_reason": "stop",
    }
    return _response({**_head("chat.completion"), "choices": [choice], "usage": _USAGE})


def model_list() -> bytes:
    return _response({"object": "list", "data": [{"id": "mock-model", "object": "model", "created": 1}]})


def chunk_frame() -> tuple[bytes, bytes]:
    """What stands before and after the stamp in each chunk of a stream, HTTP's own framing included."""
    event = _event([{"index": 0, "delta": {"role": "assistant", "content": "STAMP "}, "finish_reason": None}])
    before, after = event.split(b"STAMP")
    length = len(before) + len(STAMP % 0) + len(after)
    return b"%x\r\n%s" % (length, before), after + b"\r\n"


def last_chunks() -> bytes:
    """The finish reason, the usage and the end of the stream."""
    finish = _event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    usage = _event([], usage=_USAGE)
    return b"".join(b"%x\r\n%s\r\n" % (len(e), e) for e in (finish, usage, b"data: [DONE]\n\n")) + _END


def _head(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-mock", "object": kind, "created": 1_700_000_000, "model": "mock-model"}


def _event(choices: list[dict[str, Any]], **more: Any) -> bytes:
    data = {**_head("chat.completion.chunk"), "choices": choices, **more}
    return b"data: %s\n\n" % json.dumps(data, separators=(",", ":")).encode()


def _response(data: dict[str, Any]) -> bytes:
    body = json.dumps(data, separators=(",", ":")).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


class Upstream(asyncio.Protocol):
    """One connection. `chunks` of a stream follow one another after `interval_s`."""

    def __init__(self, chunks: int, interval_s: float) -> None:
        self._chunks = chunks
        self._interval_s = interval_s
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._whole, self._models, self._last = whole_answer(), model_list(), last_chunks()
        self._before, self._after = chunk_frame()
        self._body: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = []

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self._body)
        if not body:
            self._write(self._models)
        elif any(mark in body for mark in _WANTS_STREAM):
            self._write(_STREAM_HEAD)
            self._send_chunk(0, self._loop.time())
        else:
            self._write(self._whole)

    def _send_chunk(self, number: int, started: float) -> None:
        if self._transport is None:
            return
        if number == self._chunks:
            self._write(self._last)
            return
        self._write(self._before + STAMP % (time.monotonic_ns() // 1000) + self._after)
        # From the start, not from now: a late chunk does not delay those after it.
        self._loop.call_at(started + (number + 1) * self._interval_s, self._send_chunk, number + 1, started)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def serve(port: int, chunks: int, interval_s: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(chunks, interval_s), "127.0.0.1", port, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--chunks", type=int, default=64)
    parser.add_argument("--interval-ms", type=float, default=20.0)
    args = parser.parse_args()
    uvloop.run(serve(args.port, args.chunks, args.interval_ms / 1000))


if __name__ == "__main__":
    main()
