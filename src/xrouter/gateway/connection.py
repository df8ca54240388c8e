"""One client's connection: uvicorn's, with limits on how long and how much a client may hold up.

uvicorn waits for ever for the end of a head or a body, takes a head of any size and keeps what a client does not read.
Apache's mod_reqtimeout has the same idea: so many seconds, and more for a body that keeps coming at a minimum rate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from .client import EXTENSION, Client
from .head_with_body import HeadWithBody

RESERVED_FILES = 64
"""Open files that are not connections: books, listeners, the loop's own."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """connections: open at once; further ones are told to come again later.

    head_bytes: of the request line and all headers. head_s: seconds from the first byte of a request, or from
    connecting, to the end of its head. body_s: the same for its body, and a second more for every `body_bytes_per_s`.
    unread_s: how long a client may take nothing of what is sent to it.
    """

    connections: int
    head_bytes: int = 64 * 1024
    head_s: float = 20.0
    body_s: float = 30.0
    body_bytes_per_s: int = 16 * 1024
    unread_s: float = 60.0


def connection_limits() -> ConnectionLimits:
    """As many connections as this process may open files, with one upstream for each; raises its soft limit for it."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return ConnectionLimits(connections=2_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard and soft != resource.RLIM_INFINITY:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):
            pass  # some systems state a hard limit that they do not grant
    if soft == resource.RLIM_INFINITY:
        soft = 1_000_000
    return ConnectionLimits(connections=max(16, (soft - RESERVED_FILES) // 2))


def protocol(limits: ConnectionLimits) -> Callable[..., Connection]:
    """What uvicorn makes a connection with."""

    def make(*args: Any, **kwargs: Any) -> Connection:
        return Connection(*args, limits=limits, **kwargs)

    return make


class Connection(HttpToolsProtocol):
    def __init__(self, *args: Any, limits: ConnectionLimits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._refused = False
        self._in_head = self._in_body = False
        self._head_bytes = self._unparsed_bytes = 0
        self._answering: Any = None
        self._client: Client | None = None
        self._request_due = _Deadline(self.loop, self._too_slow)
        self._unread_due = _Deadline(self.loop, self._unread)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = cast(asyncio.Transport, HeadWithBody(transport, self.loop))
        if len(self.connections) > self._limits.connections:
            self._refuse(503, "too_many_connections", "too many connections are open: try again later")
        else:
            self._request_due.set(self._limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_due.cancel()
        self._unread_due.cancel()
        answering = self._answering
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        if answering is not None and not answering.response_complete:
            # uvicorn tells only the last of several pipelined requests.
            answering.disconnected = True
            answering.message_event.set()
            if self._client is not None:
                self._client.lost()
        self._client = None

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if not (self._in_head or self._in_body) and not self._request_due.is_set:
            self._request_due.set(self._limits.head_s)
        in_head = self._in_head
        super().data_received(data)
        if self._in_head and in_head:
            self._unparsed_bytes += len(data)  # a header that does not end is told of by nobody else
            self._check_head(self._unparsed_bytes)
        elif self._in_body:
            self._request_due.extend(len(data) / self._limits.body_bytes_per_s)

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed. uvicorn calls it; where an answer is on its way the connection just ends."""
        if self._refused:
            return
        self._refuse(400, "invalid_http", "this is no valid HTTP request")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._refused:
            self._in_head, self._head_bytes, self._unparsed_bytes = True, 0, 0
            self._request_due.set(self._limits.head_s)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        if self._refused:
            return
        super().on_headers_complete()
        self._in_head, self._in_body = False, True
        self._request_due.set(self._limits.body_s)

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._request_due.clear()
        if not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._watch_unread()
        if self._client is not None:
            self._client.end()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_due.set(self._limits.unread_s)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread_due.clear()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answering = cycle
        self._client = Client(cycle)
        cycle.scope["extensions"] = {EXTENSION: self._client}
        super()._start_asgi_task(cycle, app)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        self._check_head(self._head_bytes)

    def _check_head(self, size: int) -> None:
        if size > self._limits.head_bytes and not self._refused:
            text = f"the request line and headers are longer than {self._limits.head_bytes} bytes"
            self._refuse(431, "head_too_large", text)

    def _too_slow(self) -> None:
        incomplete = self._in_head or self._in_body
        answering = self._answering is not None and not self._answering.response_complete
        if self.flow.read_paused or (answering and not incomplete):
            # It is this side that does not read, or an answer that is awaited: the client is not to blame.
            self._request_due.set(self._limits.body_s)
        elif incomplete:
            self._refuse(408, "request_timeout", "the request did not come in time")
        else:
            self._close()

    def _unread(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _watch_unread(self) -> None:
        if self.transport.get_write_buffer_size():
            self._unread_due.set(self._limits.unread_s)

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer without asking the application, and hang up. Nothing is said in the middle of another answer."""
        self._refused = True
        self._request_due.clear()
        answering = self._answering
        if answering is None or answering.response_complete or self._answers_only_this():
            kind = "server_error" if status >= 500 else "invalid_request_error"
            body = orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head % len(body) + body)
        self._close()

    def _answers_only_this(self) -> bool:
        """Whether the request under way is the one at fault, and nothing has been said of it yet."""
        return self._in_body and self._answering is self.cycle and not self.cycle.response_started

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
            self._watch_unread()


class _Deadline:
    """Calls back once its time is over. Setting it anew is cheap: the timer of the loop is kept and looks again."""

    __slots__ = ("_act", "_due", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
        self._loop = loop
        self._act = act
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        return self._due is not None

    def set(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        self._arm(self._due)

    def extend(self, seconds: float) -> None:
        if self._due is not None:
            self._due += seconds

    def clear(self) -> None:
        self._due = None

    def cancel(self) -> None:
        """`clear`, and let go of the timer, which holds the connection."""
        self._due = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer, due = None, self._due
        if due is None:
            return
        if self._loop.time() >= due:
            self._due = None
            self._act()
        else:
            self._arm(due)
