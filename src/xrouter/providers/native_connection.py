"""One kept-alive HTTP/1.1 connection: httptools reads it, one exchange at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httptools

from .transport import END_OF_BODY_GRACE_S, Faults

MAX_HEAD_BYTES = 64 * 1024
MAX_WAITING_BYTES = 256 * 1024
"""Of a body that nobody reads; then reading from the socket pauses."""


class StaleConnectionError(Exception):
    """The connection was closed before the first byte of the answer. Never leaves the transport."""


class Connection(asyncio.Protocol):
    """`idle` is called with the connection when an exchange is over and it can be used again."""

    def __init__(self, idle: Callable[[Connection], None], lost: Callable[[Connection], None]) -> None:
        self.idle_since = 0.0
        self._idle = idle
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._answer: NativeAnswer | None = None
        self._head_bytes = 0
        self._interim = self._over = self._surplus = self._reusable = False
        self._paused = False

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: tuple[bytes, bytes], faults: Faults, model: str) -> NativeAnswer:
        """Send head and body, wait for status and headers. Raises StaleConnectionError and ProviderError."""
        assert self._transport is not None
        answer = self._answer = NativeAnswer(self, faults, model)
        self._parser = httptools.HttpResponseParser(self)
        self._head_bytes = 0
        self._interim = self._over = self._surplus = self._reusable = False
        self._transport.write(b"".join(request) if len(request[1]) < MAX_HEAD_BYTES else request[0])
        if len(request[1]) >= MAX_HEAD_BYTES:
            self._transport.write(request[1])
        try:
            while not answer.begun:
                await answer.wait()
        except BaseException:
            answer.hang_up()
            raise
        return answer

    def close(self) -> None:
        """Hang up without waiting for what is still to be sent."""
        self._answer = None
        if self._transport is not None:
            self._transport.abort()

    def resume(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:  # nothing was asked for
            self.close()
            return
        answer.touched = True
        wrong: str | None = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            wrong = "it switches protocols"
        except httptools.HttpParserError as error:
            wrong, self._surplus = type(error).__name__, True
        if self._over and answer.begun:
            self._leave(answer)
        elif wrong is not None:
            self._fail(answer, wrong)
        elif not answer.begun:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._fail(answer, f"its headers are longer than {MAX_HEAD_BYTES} bytes")
        answer.wake()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, why: Exception | None) -> None:
        answer, self._answer, self._transport = self._answer, None, None
        self._lost(self)
        if answer is None or answer.complete:
            return
        if not answer.touched:
            answer.error = StaleConnectionError()
        elif why is None and answer.begun and not answer.framed:
            answer.complete = True
        else:
            answer.error = answer.faults.broke_off(answer.model)
        answer.wake()

    # httptools' side

    def on_message_begin(self) -> None:
        self._surplus = self._over

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is not None and not self._over:
            self._answer.add_header(name, value)

    def on_headers_complete(self) -> None:
        answer = self._answer
        if answer is None or self._over:
            return
        status = self._parser.get_status_code()
        if status >= 200:
            answer.status, answer.begun = status, True
        elif status != 101:  # which `data_received` refuses
            self._interim = True
            answer.headers.clear()

    def on_body(self, data: bytes) -> None:
        if self._answer is not None and not self._over:
            self._answer.add(data)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        else:
            self._over = True
            self._reusable = self._parser.should_keep_alive()

    def _leave(self, answer: NativeAnswer) -> None:
        """The answer is whole: the connection is free for the next exchange, or done with."""
        self._answer = None
        reusable = self._reusable and not self._surplus and answer.framed
        answer.complete = True
        if reusable and self.open:
            self.resume()
            self._idle(self)
        else:
            self.close()

    def _fail(self, answer: NativeAnswer, why: str) -> None:
        answer.error = answer.faults.no_http(why, answer.model)
        self.close()


class NativeAnswer:
    """See `transport.Answer`. Holds what came and was not read yet."""

    def __init__(self, connection: Connection, faults: Faults, model: str) -> None:
        self.status = 0
        self.headers: dict[str, str] = _Headers()
        self.faults = faults
        self.model = model
        self.touched = self.begun = self.complete = False
        self.error: Exception | None = None
        self._connection = connection
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._take: Callable[[bytes], bool] | None = None

    @property
    def framed(self) -> bool:
        """Whether the headers say where the body ends; otherwise the end of the connection does."""
        return (
            "content-length" in self.headers
            or "transfer-encoding" in self.headers
            or self.status in (204, 304)
        )

    async def read(self) -> bytes:
        while not self._pieces:
            if self.complete:
                return b""
            await self.wait()
        return self._taken()

    async def push(self, take: Callable[[bytes], bool]) -> None:
        if self._pieces or self.complete:
            return
        self._take = take
        try:
            await self.wait()
        finally:
            self._take = None

    async def finish(self) -> None:
        if not self.complete:
            asyncio.get_running_loop().call_later(END_OF_BODY_GRACE_S, self.hang_up)

    def hang_up(self) -> None:
        if not self.complete and self.error is None:
            self.error = self.faults.broke_off(self.model)
            self._connection.close()
            self.wake()

    async def wait(self) -> None:
        """Wait for anything new. Raises what has gone wrong."""
        self._raise_error()
        if self._waiter is not None:
            raise RuntimeError("an answer is read by one task at a time")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if not self._pieces:
            self._raise_error()

    def _raise_error(self) -> None:
        if self.error is not None:
            raise self.error

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self._take is not None and self._pieces and self.error is None:
            try:
                if self._take(self._taken()) and not self.complete:
                    return
            except Exception as error:  # noqa: BLE001 - it belongs to whoever waits, not to the loop
                waiter.set_exception(error)
                return
        waiter.set_result(None)

    def _taken(self) -> bytes:
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._waiting_bytes > MAX_WAITING_BYTES and not self.complete:
            self._connection.resume()
        self._waiting_bytes = 0
        return data

    def add_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def add(self, data: bytes) -> None:
        self._pieces.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > MAX_WAITING_BYTES and self._waiting_bytes - len(data) <= MAX_WAITING_BYTES:
            self._connection.pause()


class _Headers(dict[str, str]):
    """Kept in lower case, looked up in any."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)
