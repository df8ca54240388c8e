"""The client at the other end of a connection, as `connection.Connection` knows it: what ASGI says with messages, in calls.

A whole answer and a stream's pieces need no coroutines then, and no task waits for a client to hang up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

EXTENSION = "xrouter.client"
"""Its name among the `extensions` of an ASGI scope."""

_NOT_IN_A_HEADER = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Client:
    """cycle: uvicorn's request and response. It holds this object, so it is let go once one of them is over."""

    def __init__(self, cycle: Any) -> None:
        self._cycle: Any | None = cycle
        self._on_lost: Callable[[], None] | None = None

    def write(self, body: bytes) -> bool:
        """Write a piece of a response that has begun and whose length is unknown.

        False where that cannot be done at once, such as to a client that is slow: it is to be sent by ASGI then.
        """
        cycle = self._cycle
        if cycle is None or not (cycle.chunked_encoding and body) or cycle.flow.write_paused:
            return False
        cycle.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send a whole response; its headers name its length. False where it is to be sent by ASGI. Raises ValueError
        for a header that would not end where it should."""
        cycle = self._cycle
        if (
            cycle is None
            or cycle.response_started
            or cycle.flow.write_paused
            or cycle.scope["method"] == "HEAD"
        ):
            return False
        if any(name == b"connection" for name, _ in headers):
            return False
        if _NOT_IN_A_HEADER.search(b"".join([value for _, value in headers])):
            raise ValueError("a header holds a control character")
        lines = [b"%b: %b\r\n" % header for header in (*cycle.default_headers, *headers)]
        closing = b"" if cycle.keep_alive else b"connection: close\r\n"
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(b"".join((STATUS_LINE[status], *lines, closing, b"\r\n", body)))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True

    def watch(self, on_lost: Callable[[], None]) -> Client:
        """Call `on_lost` once if the client hangs up before `cancel`."""
        if self._cycle is None:
            on_lost()
        else:
            self._on_lost = on_lost
            self._cycle.flow.resume_reading()  # what is not read tells of no end
        return self

    def cancel(self) -> None:
        self._on_lost = None

    def lost(self) -> None:
        """The connection tells that the client has hung up."""
        on_lost = self._on_lost
        self.end()
        if on_lost is not None:
            on_lost()

    def end(self) -> None:
        """Nothing more is said to it, and nothing of it."""
        self._cycle = self._on_lost = None


def client_of(scope: Mapping[str, Any]) -> Client | None:
    """None behind any other server."""
    found = scope.get("extensions", {}).get(EXTENSION)
    return found if isinstance(found, Client) else None
