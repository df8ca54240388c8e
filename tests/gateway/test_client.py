"""A stream's pieces and a client's end, without messages."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from xrouter.gateway.asgi import ClientDisconnected, Reply, until_disconnect
from xrouter.gateway.chat_api import CHAT
from xrouter.gateway.client import EXTENSION, Client, client_of


class Cycle:
    """What `Client` reads of uvicorn's."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.resumed = 0
        self.chunked_encoding: bool | None = None
        self.transport = SimpleNamespace(write=self.written.append)
        self.flow = SimpleNamespace(write_paused=False, resume_reading=self.resume)
        self.response_started = self.response_complete = self.closed = False
        self.keep_alive = self.waiting_for_100_continue = True
        self.default_headers = [(b"date", b"today")]
        self.scope = {"method": "POST"}
        self.message_event = asyncio.Event()
        self.transport.close = self.close
        self.on_response = lambda: None

    def close(self) -> None:
        self.closed = True

    def resume(self) -> None:
        self.resumed += 1


async def test_a_piece_is_written_once_the_stream_has_begun_and_while_the_client_reads() -> None:
    cycle = Cycle()
    client = Client(cycle)
    assert not client.write(b"before the head")
    cycle.chunked_encoding = True
    assert client.write(b"x" * 17)
    assert cycle.written == [b"11\r\n" + b"x" * 17 + b"\r\n"]
    assert not client.write(b""), "an empty piece would end the stream"
    cycle.flow.write_paused = True
    assert not client.write(b"slow")
    cycle.flow.write_paused = False
    client.end()
    assert not client.write(b"late")
    assert len(cycle.written) == 1


HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"2")]


@pytest.mark.parametrize("keep_alive", [True, False])
async def test_a_whole_answer_goes_out_in_one_piece(keep_alive: bool) -> None:
    cycle = Cycle()
    cycle.keep_alive = keep_alive
    assert Client(cycle).respond(200, HEADERS, b"ok")
    closing = "" if keep_alive else "connection: close\r\n"
    head = f"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n{closing}\r\n"
    assert cycle.written == [head.encode() + b"ok"]
    assert cycle.response_complete
    assert cycle.message_event.is_set()
    assert cycle.closed is not keep_alive
    assert not Client(cycle).respond(200, HEADERS, b"ok"), "it has been answered"


async def test_what_is_out_of_the_usual_is_sent_by_asgi() -> None:
    cycle = Cycle()
    client = Client(cycle)
    assert not client.respond(200, [*HEADERS, (b"connection", b"close")], b"ok")
    cycle.flow.write_paused = True
    assert not client.respond(200, HEADERS, b"ok")
    cycle.flow.write_paused = False
    cycle.scope["method"] = "HEAD"
    assert not client.respond(200, HEADERS, b"ok")
    assert cycle.written == []


@pytest.mark.parametrize("value", [b"a\r\nx-evil: 1", b"a\n", b"\r", b"\x00", b"\x7f"])
async def test_no_header_holds_a_line_break(value: bytes) -> None:
    cycle = Cycle()
    with pytest.raises(ValueError, match="control character"):
        Client(cycle).respond(200, [*HEADERS, (b"x-model", value)], b"ok")
    assert cycle.written == []
    assert not cycle.response_started


async def test_what_cannot_be_written_at_once_is_sent_by_asgi() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    cycle = Cycle()
    reply = Reply(send, "r", CHAT, Client(cycle))
    cycle.chunked_encoding = True
    assert reply.write(b"now") is None
    cycle.flow.write_paused = True
    waiting = reply.write(b"later")
    assert waiting is not None
    await waiting
    assert cycle.written == [b"3\r\nnow\r\n"]
    assert [message["body"] for message in sent] == [b"later"]


async def never() -> dict[str, Any]:
    raise AssertionError("the connection tells; nobody listens")


async def test_a_lost_client_ends_the_work_and_not_the_task() -> None:
    cycle = Cycle()
    client = Client(cycle)

    async def work() -> None:
        client.lost()
        await asyncio.sleep(10)

    before = asyncio.all_tasks()
    with pytest.raises(ClientDisconnected):
        await until_disconnect(work(), never, client)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert asyncio.all_tasks() == before
    assert cycle.resumed == 1


async def test_a_client_that_was_lost_before_is_noticed() -> None:
    client = Client(Cycle())
    client.lost()
    with pytest.raises(ClientDisconnected):
        await until_disconnect(asyncio.sleep(10), never, client)


@pytest.mark.parametrize("over", [Client.cancel, Client.end])
async def test_after_the_answer_nobody_is_told(over: Any) -> None:
    client = Client(Cycle())
    done = []

    async def work() -> None:
        over(client)
        client.lost()
        await asyncio.sleep(0)
        done.append(True)

    await until_disconnect(work(), never, client)
    assert done == [True]


def test_other_servers_have_none() -> None:
    client = Client(Cycle())
    assert client_of({}) is None
    assert client_of({"extensions": {EXTENSION: object()}}) is None
    assert client_of({"extensions": {EXTENSION: client}}) is client
