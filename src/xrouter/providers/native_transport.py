"""HTTP/1.1 of our own on httptools: a third of aiohttp's work for each request. No proxies, no HTTP/2.

A kept-alive connection that turns out to be closed before the first byte of the answer is replaced by a fresh one,
once: the usual race between an idle connection's end and its next use.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from .native_connection import Connection, NativeAnswer, StaleConnectionError
from .transport import DEFAULT_CONNECT_TIMEOUT_S, KEEPALIVE_S, Faults


class NativeTransport:
    """tls: for https; None = the system's certificates."""

    def __init__(
        self,
        url: str,
        faults: Faults,
        *,
        connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
        keepalive_s: float = KEEPALIVE_S,
    ) -> None:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if secure else 80)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        self._start = f"POST {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n".encode("ascii")
        self._secure = secure
        self._tls = tls
        self._faults = faults
        self._connect_timeout_s = connect_timeout_s
        self._keepalive_s = keepalive_s
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweep: asyncio.TimerHandle | None = None

    async def post(self, body: bytes, headers: Mapping[str, str], model: str) -> NativeAnswer:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._idle, self._all, self._sweep, self._loop = [], set(), None, loop
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = (self._start + f"{lines}Content-Length: {len(body)}\r\n\r\n".encode("ascii"), body)
        kept = self._kept()
        if kept is not None:
            try:
                return await kept.exchange(request, self._faults, model)
            except StaleConnectionError:
                pass
        fresh = await self._connect(model)
        try:
            return await fresh.exchange(request, self._faults, model)
        except StaleConnectionError as error:
            raise self._faults.unreachable(ConnectionResetError(), model) from error

    async def aclose(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        same_loop = self._loop is asyncio.get_running_loop()
        for connection in tuple(self._all) if same_loop else ():
            connection.close()
        self._idle.clear()
        self._all.clear()
        await asyncio.sleep(0)  # lets the sockets close

    def _kept(self) -> Connection | None:
        oldest = self._now() - self._keepalive_s
        while self._idle:
            connection = self._idle.pop()
            if connection.open and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    async def _connect(self, model: str) -> Connection:
        loop = asyncio.get_running_loop()
        if self._secure and self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._put_back, self._forget),
                    self._host,
                    self._port,
                    ssl=self._tls if self._secure else None,
                    server_hostname=self._host if self._secure else None,
                )
        except TimeoutError as error:
            raise self._faults.no_connection_within(self._connect_timeout_s, model) from error
        except socket.gaierror as error:
            raise self._faults.no_address(model) from error
        except OSError as error:
            raise self._faults.unreachable(error, model) from error
        self._all.add(connection)
        return connection

    def _put_back(self, connection: Connection) -> None:
        connection.idle_since = self._now()
        self._idle.append(connection)
        if self._sweep is None and self._loop is not None:
            self._sweep = self._loop.call_later(self._keepalive_s, self._close_old)

    def _forget(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _close_old(self) -> None:
        self._sweep = None
        oldest = self._now() - self._keepalive_s
        old = [connection for connection in self._idle if connection.idle_since <= oldest]
        self._idle = [connection for connection in self._idle if connection.idle_since > oldest]
        for connection in old:
            connection.close()
        if self._idle and self._loop is not None:
            wait_s = self._idle[0].idle_since - oldest
            self._sweep = self._loop.call_later(wait_s, self._close_old)

    def _now(self) -> float:
        return self._loop.time() if self._loop is not None else 0.0
