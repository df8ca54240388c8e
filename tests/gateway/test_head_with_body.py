"""The head of a response and the first piece of its body, in one write."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from xrouter.gateway.head_with_body import HeadWithBody

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Wire:
    """A transport that notes what is written, system call by system call."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.calls.append(data)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        self.write(b"".join(pieces))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> str:
        return name


def made() -> tuple[Wire, Any]:
    wire = Wire()
    return wire, HeadWithBody(wire, asyncio.get_running_loop())  # type: ignore[arg-type]


async def test_head_and_body_go_out_together() -> None:
    wire, transport = made()
    transport.write(HEAD)
    transport.write(b"ok")
    transport.write(b"more")
    assert wire.calls == [HEAD + b"ok", b"more"]
    await asyncio.sleep(0)
    assert len(wire.calls) == 2


async def test_a_head_that_nothing_follows_goes_in_the_next_turn() -> None:
    wire, transport = made()
    transport.write(HEAD)
    assert wire.calls == []
    await asyncio.sleep(0)
    assert wire.calls == [HEAD]
    transport.write(b"late")
    assert wire.calls == [HEAD, b"late"]


async def test_closing_sends_what_is_kept() -> None:
    wire, transport = made()
    transport.write(HEAD)
    transport.close()
    assert (wire.calls, wire.closed, transport.is_closing()) == ([HEAD], True, True)
    await asyncio.sleep(0)


async def test_nothing_else_waits() -> None:
    wire, transport = made()
    transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\nInvalid HTTP request received.")
    assert len(wire.calls) == 2
    assert transport.get_extra_info("peername") == "peername"
