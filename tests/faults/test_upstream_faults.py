"""What upstreams do wrong, against the wired gateway: each API, named and by policy, whole and streamed."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from accounts_kit import budget
from aiohttp import web
from faults_kit import CHAT, MESSAGES, PATHS, SECRET, Got, ask, assert_books_balance, body_for, key_of, wired
from upstream import (
    Behaviour,
    MockUpstream,
    Received,
    broken_sse,
    chunk_body,
    closed_port_url,
    cut_body,
    error,
    half_json,
    hang,
    ok,
    rate_limited,
    raw,
    server_error,
    sse,
    sse_events,
    wrong_content_type,
)

SECRETS = ("sk-secret-of-the-test", SECRET)
QUESTION = "a private question"


def drip(first: bytes, content_type: str) -> Behaviour:
    """A byte now and then: a slow loris on the other side."""

    async def behave(received: Received, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        for position in range(len(first)):
            await response.write(first[position : position + 1])
            await asyncio.sleep(0.02)
        await asyncio.sleep(30)
        return response

    return behave


def both(whole: Behaviour, streamed: Behaviour) -> Behaviour:
    async def behave(received: Received, request: web.Request) -> web.StreamResponse:
        return await (streamed if received.body.get("stream") else whole)(received, request)

    return behave


TEN_MEGABYTES = b"x" * 10 * 1024 * 1024
LONG_LINE = sse_events(sse(chunk_body({"content": "Hel"})), b"data: " + TEN_MEGABYTES)
FAULTS: dict[str, tuple[Behaviour, int]] = {
    "429": (rate_limited("7"), 429),
    "500": (server_error(), 502),
    "its key is refused": (error(401, "bad key sk-secret-of-the-test"), 502),
    "half a JSON": (both(half_json(), broken_sse("bad_json")), 502),
    "half a body": (both(cut_body(), broken_sse("cut")), 502),
    "half a stream": (both(half_json(), broken_sse("no_end")), 502),
    "an error in the stream": (both(server_error(), broken_sse("error")), 502),
    "a list for an object": (both(raw(b"[1]"), broken_sse("not_object")), 502),
    "a web page": (wrong_content_type(), 502),
    "nothing": (both(raw(b""), sse_events()), 502),
    "deep nesting": (
        both(
            raw(b'{"a":' + b"[" * 600 + b"]" * 600 + b"}"),
            sse_events(b'data: {"a":' + b"[" * 600 + b"]" * 600),
        ),
        502,
    ),
    "a line of 10 MB": (both(raw(TEN_MEGABYTES), LONG_LINE), 502),
    "a redirect": (raw(b"", status=302, Location="http://127.0.0.1:1/"), 502),
    "hangs": (hang(), 504),
    "a slow loris": (
        both(drip(b'{"id": "chatcmpl"', "application/json"), drip(b"data: {", "text/event-stream")),
        504,
    ),
}


def assert_told(path: str, got: Got, status: int) -> None:
    """The error in the API's own shape, with no secret and nothing of the question in it."""
    told = got.error
    assert told is not None
    assert not got.broke
    if got.status != 200:
        assert got.status == status
        if path == MESSAGES:
            assert got.json["type"] == "error"
        else:
            assert set(told) == {"message", "type", "param", "code"}
    assert "internal error" not in told["message"]
    for secret in (*SECRETS, QUESTION):
        assert secret.encode() not in got.body


@pytest.mark.parametrize("fault", FAULTS)
async def test_upstream_fault(mock_upstream: MockUpstream, fault: str) -> None:
    behaviour, status = FAULTS[fault]
    mock_upstream.default = behaviour
    key = key_of(budgets=(budget("1", "total"),))
    async with wired(mock_upstream.base_url, key) as gateway, aiohttp.ClientSession() as session:

        async def one(path: str, model: str, stream: bool) -> None:
            body = body_for(
                path,
                QUESTION,
                model=model,
                stream=stream,
                xrouter={"deadline_s": 0.5 if status == 504 else 20, "max_turns": 1},
            )
            if model == "small":
                del body["xrouter"]["max_turns"]
            got = await ask(gateway.url, path, body, secret=SECRET, session=session)
            assert_told(path, got, status)

        await asyncio.gather(
            *(
                one(path, model, stream)
                for path in PATHS
                for model in ("small", "xrouter")
                for stream in (False, True)
            )
        )
        ledger: Any = gateway.router.ledger
        assert len(ledger.episodes) == len(PATHS) * 4
        assert {entry.stop_reason for entry in ledger.episodes} == {"failed"}
        for entry in ledger.episodes:
            assert entry.error
            assert not any(secret in entry.error for secret in (*SECRETS, QUESTION))
        assert_books_balance(gateway.router)
        (spent,) = await gateway.router.ledger.spent(["key:k1/total"])
        assert spent.cost_usd == sum(entry.cost_usd for entry in ledger.episodes)
        mock_upstream.default = ok("still here")
        got = await ask(gateway.url, CHAT, body_for(CHAT), secret=SECRET)
        assert got.status == 200


async def test_an_upstream_that_refuses_connections(mock_upstream: MockUpstream) -> None:
    async with wired(closed_port_url()) as gateway:
        for path in PATHS:
            for model in ("small", "xrouter"):
                for stream in (False, True):
                    got = await ask(gateway.url, path, body_for(path, model=model, stream=stream))
                    assert_told(path, got, 502)
        ledger: Any = gateway.router.ledger
        assert sum(entry.cost_usd for entry in ledger.episodes) == 0
