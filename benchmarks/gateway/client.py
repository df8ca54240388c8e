"""An HTTP client that costs next to nothing: one request at a time on each of its connections."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import httptools

from .upstream import STAMP_PATTERN

_STAMP = re.compile(STAMP_PATTERN)
_STAMP_BYTES = 17


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes and the whole of it, made beforehand."""

    host: str
    port: int
    request: bytes


def make_target(url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Target:
    """A POST of `body` as JSON. `url`: http://host:port/path."""
    address, _, path = url.removeprefix("http://").partition("/")
    host, _, port = address.partition(":")
    payload = json.dumps(body, separators=(",", ":")).encode()
    head = {
        "host": address,
        "content-type": "application/json",
        "content-length": str(len(payload)),
        **headers,
    }
    lines = [f"POST /{path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    return Target(host, int(port), "\r\n".join(lines).encode() + b"\r\n\r\n" + payload)


@dataclass(slots=True)
class Reply:
    """An answer read to its end. `delays_ms`: for each chunk of the upstream in it, writing to arrival."""

    status: int = 0
    body: list[bytes] = field(default_factory=list)
    delays_ms: list[float] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """Keep-alive, opened when first needed and again where the server closed it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[Reply] | None = None
        self._reply = Reply()
        self._tail = b""
        self._now_us = 0

    async def ask(self, *, timeout_s: float = 120.0) -> Reply:
        """Raises RuntimeError with the answer's beginning where its status is not 200; ConnectionError, TimeoutError."""
        loop = asyncio.get_running_loop()
        if self._transport is None:
            await loop.create_connection(lambda: self, self._target.host, self._target.port)
        assert self._transport is not None
        self._reply, self._tail = Reply(), b""
        self._done = loop.create_future()
        watchdog = loop.call_later(timeout_s, self._expire)
        self._transport.write(self._target.request)
        try:
            reply = await self._done
        finally:
            watchdog.cancel()
        if reply.status != 200:
            raise RuntimeError(
                f"{self._target.port} answered {reply.status}: {b''.join(reply.body)[:500].decode(errors='replace')}"
            )
        return reply

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class
        self._parser = httptools.HttpResponseParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError("the server closed the connection in its answer"))

    def data_received(self, data: bytes) -> None:
        self._now_us = time.monotonic_ns() // 1000
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._reply.body.append(body)
        text = self._tail + body
        end = 0
        for stamp in _STAMP.finditer(text):
            self._reply.delays_ms.append((self._now_us - int(stamp[1])) / 1000)
            end = stamp.end()
        self._tail = text[max(end, len(text) - _STAMP_BYTES + 1) :]

    def on_message_complete(self) -> None:
        self._reply.status = self._parser.get_status_code()
        keep = self._parser.should_keep_alive()
        if self._done is not None and not self._done.done():
            self._done.set_result(self._reply)
        if not keep:
            self.close()

    def _expire(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(TimeoutError("no whole answer in time"))
        self.close()
