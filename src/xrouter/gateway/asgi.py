"""The little of HTTP that the gateway needs, on ASGI's own terms."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from typing import Any

import orjson

from ..errors import BodyTooLargeError, XRouterError
from .api import Api, Translator
from .client import Client
from .reply import error_headers

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEADERS = "xrouter.headers"
"""Where a scope keeps them by name, once one was asked for."""
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class ClientDisconnected(Exception):  # noqa: N818 - an event, not a fault
    """The client hung up; nobody is left to answer."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first of that name."""
    found: dict[bytes, bytes] | None = scope.get(_HEADERS)
    if found is None:
        found = scope[_HEADERS] = dict(reversed(scope["headers"]))
    return found.get(name)


def header_text(scope: Scope, name: bytes) -> str | None:
    value = header(scope, name)
    return None if value is None else value.decode("latin-1")


def request_id(scope: Scope) -> str:
    """The client's own x-request-id if it is a plain word, else a new one."""
    given = header(scope, b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"req_{secrets.token_hex(16)}"


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. Raises BodyTooLargeError at the first sign of more than `limit` bytes."""
    declared = header(scope, b"content-length") or b""
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(
        f"the body is larger than {limit} bytes; send less or raise max_body_bytes in the configuration"
    )


async def until_disconnect(
    work: Coroutine[Any, Any, None], receive: Receive, client: Client | None = None
) -> None:
    """Run `work` to its end in the current task, or cancel it when the client hangs up.

    Call once the body is read. client: tells of that where the server offers it; otherwise a task listens.
    Raises ClientDisconnected, or what `work` raised.
    """
    task = asyncio.current_task()
    assert task is not None
    hung_up = False

    def cancel() -> None:
        nonlocal hung_up
        hung_up = True
        task.cancel()

    watch = asyncio.create_task(_listen(receive, cancel)) if client is None else client.watch(cancel)
    try:
        await work
    except asyncio.CancelledError:
        # Cancelled by the watch alone: the task itself goes on. Whoever else cancels it means it.
        if hung_up and not task.uncancel():
            raise ClientDisconnected from None
        raise
    finally:
        watch.cancel()


async def _listen(receive: Receive, hung_up: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    hung_up()


class Reply:
    """One response, whole (`json`) or streamed (`start`, `write`, `end`), in the words of one API.

    started_at: when its head was sent (`time.monotonic`). trace: a traceparent for the client.
    on_stream: told when a stream of events begins. client: where the server offers more than ASGI.
    """

    def __init__(self, send: Send, request_id: str, api: Api, client: Client | None = None) -> None:
        self.request_id = request_id
        self.started = False
        self.started_at: float | None = None
        self.status = 0
        self.trace: str | None = None
        self.on_stream: Callable[[], None] | None = None
        self._send = send
        self._api = api
        self._translator: Translator | None = None
        self._client = client

    @property
    def streaming(self) -> bool:
        """Whether it is, or was, a stream of events."""
        return self._translator is not None

    async def json(self, status: int, data: Any, headers: Mapping[str, str] | None = None) -> None:
        await self._whole(status, orjson.dumps(data), "application/json", headers or {})

    async def text(self, status: int, body: bytes, content_type: str) -> None:
        await self._whole(status, body, content_type, {})

    async def start(self, translator: Translator, headers: Mapping[str, str] | None = None) -> None:
        """Begin a stream of server-sent events; `translator` says what breaks it off, if anything does."""
        self._translator = translator
        if self.on_stream is not None:
            self.on_stream()
        raw = self._begin(
            200,
            {
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-cache",
                "x-accel-buffering": "no",
                **(headers or {}),
            },
        )
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    def write(self, events: bytes) -> Awaitable[None] | None:
        """Write a piece of the stream; where that has to be waited for, what is to be awaited."""
        if self._client is not None and self._client.write(events):
            return None
        return self._send({"type": "http.response.body", "body": events, "more_body": True})

    async def end(self, events: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": events})

    async def error(self, error: XRouterError) -> None:
        """An error: the whole response, or the last event of a stream that has begun."""
        headers = error_headers(error)
        if self._translator is not None:
            await self.end(self._translator.error(error, self.request_id))
            return
        if self.started:
            raise error  # half a body is out: the connection must break
        if isinstance(error, BodyTooLargeError):
            # The rest of the body is still on the wire and will not be read.
            headers = {**headers, "connection": "close"}
        body = self._api.error(error, self.request_id)
        await self.json(error.status, body, headers)

    async def _whole(self, status: int, body: bytes, content_type: str, headers: Mapping[str, str]) -> None:
        described = {"content-type": content_type, "content-length": str(len(body)), **headers}
        raw = self._begin(status, described)
        if self._client is None or not self._client.respond(status, raw, body):
            await self._send({"type": "http.response.start", "status": status, "headers": raw})
            await self._send({"type": "http.response.body", "body": body})

    def _begin(self, status: int, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        """The headers as they are sent; from here on the response counts as begun."""
        self.started, self.started_at, self.status = True, time.monotonic(), status
        raw = [
            (name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()
        ]
        raw.append((self._api.request_id_header.encode("ascii"), self.request_id.encode("ascii")))
        if self.trace is not None:
            raw.append((b"traceparent", self.trace.encode("ascii")))
        return raw
