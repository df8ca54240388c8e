"""Clients that smuggle, stall, flood, stop reading or hang up: refused in good time, and the next one is served."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from accounts_kit import budget
from aiohttp import web
from faults_kit import (
    CHAT,
    MESSAGES,
    PATHS,
    RESPONSES,
    SECRET,
    Wired,
    ask,
    assert_books_balance,
    body_for,
    key_of,
    raw_exchange,
    wired,
)
from serving_kit import answers_directly
from upstream import MockUpstream, Received, chunk_body, hang, ok, sse

from xrouter.gateway.connection import ConnectionLimits

QUICK = ConnectionLimits(connections=3_000, head_s=0.4, body_s=0.4, body_bytes_per_s=200_000, unread_s=0.5)


@pytest.fixture
async def gateway(mock_upstream: MockUpstream) -> AsyncIterator[Wired]:
    async with wired(mock_upstream.base_url, policy=answers_directly("fine"), limits=QUICK) as gateway:
        yield gateway
        got = await ask(gateway.url, CHAT, body_for(CHAT))
        assert got.status == 200, "it no longer serves"


def request(body: bytes = b"", *headers: bytes, path: str = CHAT) -> bytes:
    head = [b"POST %s HTTP/1.1" % path.encode(), b"host: x", *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def whole(data: Any, path: str = CHAT) -> bytes:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return request(body, b"content-length: %d" % len(body), path=path)


SECOND = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked"
SMUGGLED: dict[str, bytes] = {
    "length and chunked": request(b"0\r\n\r\n" + SECOND, b"content-length: 5", CHUNKED),
    "chunked and length": request(b"0\r\n\r\n" + SECOND, CHUNKED, b"content-length: 5"),
    "two lengths": request(b"hello" + SECOND, b"content-length: 5", b"content-length: 38"),
    "the same length twice": request(b"hello" + SECOND, b"content-length: 5", b"content-length: 5"),
    "a list of lengths": request(b"hello", b"content-length: 5, 5"),
    "a negative length": request(b"hello", b"content-length: -5"),
    "a length with a sign": request(b"hello", b"content-length: +5"),
    "a hexadecimal length": request(b"hello", b"content-length: 0x5"),
    "a length of 5000 digits": request(b"hello", b"content-length: " + b"9" * 5000),
    "a space before the colon": request(b"hello" + SECOND, b"content-length : 5"),
    "an unknown coding": request(b"0\r\n\r\n", b"transfer-encoding: xchunked"),
    "chunked is not last": request(b"0\r\n\r\n" + SECOND, b"transfer-encoding: chunked, identity"),
    "two codings": request(b"0\r\n\r\n", CHUNKED, b"transfer-encoding: identity"),
    "a vertical tab": request(b"0\r\n\r\n", b"transfer-encoding:\x0bchunked"),
    "no chunk size": request(b"zz\r\nhello\r\n0\r\n\r\n", CHUNKED),
    "a chunk that is longer than its size": request(b"2\r\n{}XX\r\n0\r\n\r\n", CHUNKED),
    "a chunk size beyond 64 bits": request(b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n", CHUNKED),
    "a chunk size that ends in LF": request(b"2\n{}\r\n0\r\n\r\n", CHUNKED),
    "bare LF": b"GET /healthz HTTP/1.1\nhost: x\n\n",
    "bare LF in a header": b"GET /healthz HTTP/1.1\r\nhost: x\nx-a: b\r\n\r\n",
    "bare CR in a header": b"GET /healthz HTTP/1.1\r\nhost: x\rx-a: b\r\n\r\n",
    "obs-fold": b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: b\r\n c\r\n\r\n",
    "NUL in a header": b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: \x00\r\n\r\n",
    "NUL in the path": b"GET /heal\x00thz HTTP/1.1\r\nhost: x\r\n\r\n",
    "not ASCII in the path": b"GET /\xc3\xa9 HTTP/1.1\r\nhost: x\r\n\r\n",
    "no method": b"FOO /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
    "HTTP/9.9": b"GET /healthz HTTP/9.9\r\nhost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "CONNECT": b"CONNECT a:80 HTTP/1.1\r\nhost: x\r\n\r\n",
}


async def test_header_smuggling(gateway: Wired) -> None:
    """One 400 and the end of the connection: no second request is ever seen in the first."""
    wrong = {}
    for title, sent in SMUGGLED.items():
        received, closed = await raw_exchange(gateway.address, sent)
        if received.count(b"HTTP/1.1 ") != 1 or not received.startswith(b"HTTP/1.1 400 ") or not closed:
            wrong[title] = (received, closed)
        else:
            assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_http"
    assert wrong == {}


async def test_what_cannot_be_parsed_never_lands_in_another_answer(mock_upstream: MockUpstream) -> None:
    """Rubbish after a request that is being answered ends the connection, not the middle of the answer."""
    mock_upstream.default = ok("one two three", delay_s=0.05)
    async with wired(mock_upstream.base_url) as gateway:
        ask_it = whole(body_for(CHAT, model="small", stream=True))
        reader, writer = await asyncio.open_connection(*gateway.address)
        writer.write(ask_it)
        received = await reader.readuntil(b"one")
        writer.write(b"\x00\x01 rubbish\r\n\r\n")
        received += await asyncio.wait_for(reader.read(-1), 5)
        assert received.count(b"HTTP/1.1 ") == 1
        assert b"invalid_http" not in received
        writer.close()


async def test_huge_heads(gateway: Wired) -> None:
    for sent in (
        request(b"", *(b"a: b" for _ in range(100_000))),
        request(b"", b"a: " + b"b" * 1_000_000),
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    ):
        received, closed = await raw_exchange(gateway.address, sent)
        assert closed
        assert received.startswith(b"HTTP/1.1 431 ") or not received, "the client may still be writing"
    received, _ = await raw_exchange(gateway.address, request(b"", b"a: " + b"b" * 60_000), wait_s=0.3)
    assert received.startswith(b"HTTP/1.1 400 "), "long, but within the limit: the body is at fault"


async def test_slow_loris_heads_and_bodies(gateway: Wired) -> None:
    """A byte now and then does not keep a connection open."""
    body = json.dumps(body_for(CHAT)).encode()
    for sent in (request(b"", b"x-a: " + b"b" * 500)[:-2], request(body, b"content-length: 100000")):
        reader, writer = await asyncio.open_connection(*gateway.address)
        started = asyncio.get_running_loop().time()
        try:
            for position in range(0, len(sent), 4):
                writer.write(sent[position : position + 4])
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        try:
            received = await asyncio.wait_for(reader.read(-1), 2)
        except ConnectionError:
            received = b""
        assert asyncio.get_running_loop().time() - started < 4
        assert received.startswith(b"HTTP/1.1 408 ") or not received
        writer.close()


async def test_a_slow_but_steady_client_is_served(gateway: Wired) -> None:
    """Twice as long as a stalled one may take, at a rate that is kept up."""
    body = json.dumps(body_for(CHAT, "x" * 90_000)).encode()
    reader, writer = await asyncio.open_connection(*gateway.address)
    writer.write(request(b"", b"content-length: %d" % len(body)))
    for position in range(0, len(body), 9_000):
        writer.write(body[position : position + 9_000])
        await asyncio.sleep(0.06)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_line_breaks_do_not_keep_an_idle_connection(gateway: Wired) -> None:
    reader, writer = await asyncio.open_connection(*gateway.address)
    closed = asyncio.create_task(reader.read(-1))
    for _ in range(40):
        if closed.done():
            break
        writer.write(b"\r\n")
        await asyncio.sleep(0.05)
    assert closed.done()
    writer.close()


async def test_thousands_of_idle_connections(gateway: Wired) -> None:
    """While they are open others are served; one too many is told so; idle ones are closed in time."""
    sockets = []
    try:
        for _ in range(2_000):
            connection = socket.create_connection(gateway.address)
            sockets.append(connection)
            if len(sockets) % 200 == 0:
                await asyncio.sleep(0)  # the gateway runs on this loop
        assert (await ask(gateway.url, CHAT, body_for(CHAT))).status == 200
        await asyncio.sleep(1.2)
        for connection in sockets:
            connection.settimeout(0.05)
            assert connection.recv(1) == b"", "an idle connection was kept"
    finally:
        for connection in sockets:
            connection.close()


async def test_connections_beyond_the_limit_are_refused(mock_upstream: MockUpstream) -> None:
    limits = ConnectionLimits(connections=3)
    async with wired(mock_upstream.base_url, policy=answers_directly("fine"), limits=limits) as gateway:
        first = [await asyncio.open_connection(*gateway.address) for _ in range(3)]
        await asyncio.sleep(0.05)
        received, closed = await raw_exchange(gateway.address, b"")
        assert received.startswith(b"HTTP/1.1 503 ")
        assert closed
        first.pop()[1].close()
        await asyncio.sleep(0.05)
        received, _ = await raw_exchange(gateway.address, whole(body_for(CHAT)), wait_s=0.5)
        assert received.startswith(b"HTTP/1.1 200 ")
        for _, writer in first:
            writer.close()


async def test_without_a_key_no_body_is_read(mock_upstream: MockUpstream) -> None:
    """The refusal comes before the body, so that nobody without a key can make the gateway hold megabytes."""
    async with wired(mock_upstream.base_url, key_of()) as gateway:
        for path in PATHS:
            head = request(b"", b"content-length: 90000", path=path)
            received, _ = await raw_exchange(gateway.address, head, wait_s=0.5)
            assert received.startswith(b"HTTP/1.1 401 ")


BAD_BODIES: dict[str, bytes] = {
    "deep arrays": b'{"model": "xrouter", "messages": ' + b"[" * 40_000 + b"]" * 40_000 + b"}",
    "deep objects": b'{"a":' * 15_000 + b"1" + b"}" * 15_000,
    "150 levels": b'{"model": "xrouter", "xrouter": ' + b'{"a":' * 150 + b"1" + b"}" * 150 + b"}",
    "not UTF-8": b'{"model": "xrouter", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
    "overlong UTF-8": b'{"model": "\xc0\x80"}',
    "UTF-16": '{"model": "xrouter"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + b'{"model": "xrouter"}',
    "NUL bytes": b"\x00" * 1000,
    "NUL in the middle": b'{"model": "x\x00y"}',
    "a lone surrogate": b'{"model": "\\ud800"}',
    "a number of 10,000 digits": b'{"model": ' + b"9" * 10_000 + b"}",
    "NaN": b'{"model": NaN}',
    "form data": b"model=xrouter&messages=hi",
    "a gzip file": b"\x1f\x8b\x08\x00" + b"\x00" * 100,
    "cut off": b'{"model": "xrouter", "messages": [{"role"',
}


async def test_bodies_that_are_no_json(gateway: Wired) -> None:
    for path in PATHS:
        for title, body in BAD_BODIES.items():
            got = await ask(gateway.url, path, body)
            assert got.status == 400, (path, title, got)
            assert got.json["error"]["type"] == "invalid_request_error"


async def test_nul_and_control_characters_pass_as_text(gateway: Wired) -> None:
    """They are valid JSON: what a model makes of them is its affair."""
    for path in (CHAT, RESPONSES, MESSAGES):
        got = await ask(gateway.url, path, body_for(path, "\x00\x01\u2028\U0010ffff\u202e"))
        assert got.status == 200


class Endless:
    """Streams until the client goes; `sent` counts bytes."""

    def __init__(self) -> None:
        self.sent = 0

    async def __call__(self, received: Received, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        event = sse(chunk_body({"content": "x" * 8_000}))
        while self.sent < 30_000_000:
            await response.write(event)
            self.sent += len(event)
        return response


async def test_a_client_that_stops_reading_holds_the_upstream_back(mock_upstream: MockUpstream) -> None:
    """No more is read from the upstream than buffers hold; after `unread_s` the connection is cut and booked."""
    endless = Endless()
    mock_upstream.default = endless
    async with wired(mock_upstream.base_url, limits=QUICK) as gateway:
        with socket.create_connection(gateway.address) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
            client.sendall(whole(body_for(CHAT, model="small", stream=True)))
            await asyncio.sleep(0.3)
            held = endless.sent
            assert held < 15_000_000, "the gateway took what its client did not"
            assert await mock_upstream.requests[0].wait_disconnected(5)
        assert endless.sent < 15_000_000
        async with asyncio.timeout(5):
            while not gateway.router.ledger.episodes:  # type: ignore[attr-defined]  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert_books_balance(gateway.router)


STAGES = ["connected", "half a head", "a head", "half a body", "a body", "the first bytes", "in the middle"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_hanging_up_at_every_stage(mock_upstream: MockUpstream, stream: bool) -> None:
    """Nothing is left behind: no task, no money set aside, no call that goes on; and every call is booked."""
    async with wired(mock_upstream.base_url, key_of(budgets=(budget("0.05", "total"),))) as gateway:
        for path in PATHS:
            for stage in STAGES:
                if stage in STAGES[5:]:
                    mock_upstream.default = ok("one two three four five", delay_s=0.05)
                else:
                    mock_upstream.default = hang()
                await _hang_up(gateway, path, stage, stream)
        async with asyncio.timeout(5):
            while gateway.router._answering:  # noqa: ASYNC110 - a request goes on without its client
                await asyncio.sleep(0.01)
        assert_books_balance(gateway.router)
        mock_upstream.default = ok("fine")
        got = await ask(gateway.url, CHAT, body_for(CHAT, model="small", max_tokens=1_000), secret=SECRET)
        assert got.status == 200, "money is still set aside for somebody who left"


async def _hang_up(gateway: Wired, path: str, stage: str, stream: bool) -> None:
    body = json.dumps(body_for(path, model="small", stream=stream, **_short(path))).encode()
    head = request(
        b"", b"authorization: Bearer " + SECRET.encode(), b"content-length: %d" % len(body), path=path
    )
    sent = {
        "connected": b"",
        "half a head": head[: len(head) // 2],
        "a head": head,
        "half a body": head + body[: len(body) // 2],
    }.get(stage, head + body)
    reader, writer = await asyncio.open_connection(*gateway.address)
    writer.write(sent)
    await writer.drain()
    if stage == "the first bytes":
        await asyncio.wait_for(reader.read(1), 5)
    elif stage == "in the middle":
        await asyncio.wait_for(reader.readuntil(b"two"), 5)
    else:
        await asyncio.sleep(0.03)
    if writer.transport is not None:
        writer.transport.abort()


def _short(path: str) -> dict[str, int]:
    return {"max_output_tokens" if path == RESPONSES else "max_tokens": 100}


async def test_hanging_up_with_pipelined_requests_stops_the_first(mock_upstream: MockUpstream) -> None:
    mock_upstream.default = hang()
    async with wired(mock_upstream.base_url) as gateway:
        _, writer = await asyncio.open_connection(*gateway.address)
        writer.write(whole(body_for(CHAT, model="small")) * 3)
        await mock_upstream.wait_requests(1)
        assert writer.transport is not None
        writer.transport.abort()
        assert await mock_upstream.requests[0].wait_disconnected(5)
        await asyncio.sleep(0.1)
        assert len(mock_upstream.requests) == 1, "who is gone is not served"


async def test_pipelined_requests_are_answered_in_their_order(gateway: Wired) -> None:
    sent = whole(body_for(CHAT)) + SECOND + whole(body_for(CHAT, model="nobody"))
    received, _ = await raw_exchange(gateway.address, sent, wait_s=0.3)
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"200", b"404"]


async def test_a_page_from_elsewhere_cannot_spend(gateway: Wired) -> None:
    """A browser sends such a body without asking first; without keys it would be served."""
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", gateway.url + ".evil.example"):
        got = await ask(gateway.url, CHAT, body_for(CHAT), origin=origin, content_type="text/plain")
        assert got.status == 403
        received, _ = await raw_exchange(
            gateway.address, request(b"", b"origin: " + origin.encode(), path="/drain"), wait_s=0.3
        )
        assert received.startswith(b"HTTP/1.1 403 ")
    assert (await ask(gateway.url, CHAT, body_for(CHAT), origin=gateway.url)).status == 200


async def test_who_came_through_a_proxy_is_not_on_this_machine(gateway: Wired) -> None:
    """Without an admin key /metrics and /drain are for callers on the machine, not for a proxy's."""
    sent = b"GET /metrics HTTP/1.1\r\nhost: x\r\n"
    for forwarded, status in ((b"203.0.113.7", b"403"), (b"127.0.0.1, 203.0.113.7", b"403"), (b"", b"200")):
        header = b"x-forwarded-for: " + forwarded + b"\r\n" if forwarded else b""
        received, _ = await raw_exchange(gateway.address, sent + header + b"\r\n", wait_s=0.3)
        assert received.startswith(b"HTTP/1.1 " + status), forwarded


async def test_no_header_can_be_written_into_an_answer(gateway: Wired) -> None:
    """What a client sends comes back in a header only where it is a plain word."""
    for value in ("a b", "x" * 200, "caf\u00e9"):
        got = await ask(gateway.url, CHAT, body_for(CHAT), x_request_id=value)
        assert got.status == 200
        assert value.encode() not in got.body
    got = await ask(gateway.url, CHAT, body_for(CHAT, model="a\r\nx-evil: 1"))
    assert got.status == 404
