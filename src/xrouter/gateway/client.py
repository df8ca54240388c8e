"""The client at the other end of a connection, as `connection.Connection` knows it: what ASGI says with messages, in calls.

A stream's pieces need no coroutine each then, and no task waits for a client to hang up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

EXTENSION = "xrouter.client"
"""Its name among the `extensions` of an ASGI scope."""


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
