"""Bad input is refused in OpenAI's shape with the field at fault; the process lives and nothing is booked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
from serving_kit import answers_directly, make_router, serving
from upstream import MockUpstream

from xrouter.router import Router

USER = {"role": "user", "content": "hi"}
GOOD = {"model": "xrouter", "messages": [USER]}
CHAT = "/v1/chat/completions"


@pytest.fixture
async def router(mock_upstream: MockUpstream) -> Router:
    return make_router(mock_upstream.base_url, answers_directly("fine"))


@pytest.fixture
async def url(router: Router) -> AsyncIterator[str]:
    async with serving(router) as url:
        yield url


def body(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def nested(depth: int) -> bytes:
    return body(metadata=0).replace(b'"metadata": 0', b'"tools": [' + b"[" * depth + b"]" * depth + b"]")


BAD: list[tuple[str, bytes, str | None]] = [
    ("empty body", b"", None),
    ("malformed JSON", b'{"model": "xrouter", "messages": [', None),
    ("not UTF-8", b'{"model": "xrouter", "messages": [{"role": "user", "content": "\xff\xfe"}]}', None),
    ("a lone surrogate", body(messages=[{"role": "user", "content": "\ud800"}]), None),
    ("not an object", b'["xrouter"]', None),
    ("NaN", b'{"model": "xrouter", "temperature": NaN}', None),
    ("deep nesting", nested(200), None),
    ("very deep nesting", nested(40_000), None),
    ("no model", json.dumps({"messages": [USER]}).encode(), "model"),
    ("model is no string", body(model=7), "model"),
    ("model is empty", body(model=""), "model"),
    ("no messages", b'{"model": "xrouter"}', "messages"),
    ("messages is empty", body(messages=[]), "messages"),
    ("messages is a string", body(messages="hi"), "messages"),
    ("a message is a string", body(messages=["hi"]), "messages[0]"),
    ("no role", body(messages=[USER, {"content": "hi"}]), "messages[1].role"),
    ("content is a number", body(messages=[{"role": "user", "content": 7}]), "messages[0].content"),
    ("content is missing", body(messages=[{"role": "user"}]), "messages[0].content"),
    ("a part is a string", body(messages=[{"role": "user", "content": ["x"]}]), "messages[0].content[0]"),
    ("stream is no boolean", body(stream="yes"), "stream"),
    ("stream_options without stream", body(stream_options={"include_usage": True}), "stream_options"),
    (
        "include_usage is no boolean",
        body(stream=True, stream_options={"include_usage": 1}),
        "stream_options.include_usage",
    ),
    ("n is a string", body(n="2"), "n"),
    ("n is a boolean", body(n=True), "n"),
    ("n is zero", body(n=0), "n"),
    ("max_tokens is zero", body(max_tokens=0), "max_tokens"),
    ("max_tokens is a fraction", body(max_tokens=1.5), "max_tokens"),
    ("max_completion_tokens is negative", body(max_completion_tokens=-1), "max_completion_tokens"),
    ("temperature is a string", body(temperature="hot"), "temperature"),
    ("temperature is out of range", body(temperature=3), "temperature"),
    ("top_p is out of range", body(top_p=1.01), "top_p"),
    ("stop is a number", body(stop=1), "stop"),
    ("stop holds a number", body(stop=["a", 1]), "stop"),
    ("tools is an object", body(tools={}), "tools"),
    ("response_format is a string", body(response_format="json"), "response_format"),
    ("seed is a string", body(seed="x"), "seed"),
    ("xrouter is a list", body(xrouter=[]), "xrouter"),
    ("an unknown option", body(xrouter={"cost_wieght": 1}), "xrouter.cost_wieght"),
    ("cost_weight is negative", body(xrouter={"cost_weight": -1}), "xrouter.cost_weight"),
    ("cost_weight is a string", body(xrouter={"cost_weight": "1"}), "xrouter.cost_weight"),
    (
        "a preset and a weight",
        body(model="xrouter:quality", xrouter={"cost_weight": 1}),
        "xrouter.cost_weight",
    ),
    *(
        (f"target_quality is {value!r}", body(xrouter={"target_quality": value}), "xrouter.target_quality")
        for value in (0, 1, 1.2, -0.5, "high", True)
    ),
    (
        "a weight and a target",
        body(xrouter={"cost_weight": 1, "target_quality": 0.9}),
        "xrouter.target_quality",
    ),
    (
        "a preset and a target",
        body(model="xrouter:quality", xrouter={"target_quality": 0.9}),
        "xrouter.target_quality",
    ),
    (
        "a target for a named model",
        body(model="small", xrouter={"target_quality": 0.9}),
        "xrouter.target_quality",
    ),
    ("max_cost_usd is no amount", body(xrouter={"max_cost_usd": "cheap"}), "xrouter.max_cost_usd"),
    ("max_cost_usd is negative", body(xrouter={"max_cost_usd": -0.1}), "xrouter.max_cost_usd"),
    ("max_cost_usd is a boolean", body(xrouter={"max_cost_usd": True}), "xrouter.max_cost_usd"),
    ("deadline_s is zero", body(xrouter={"deadline_s": 0}), "xrouter.deadline_s"),
    ("max_turns is a fraction", body(xrouter={"max_turns": 1.5}), "xrouter.max_turns"),
    ("max_turns is too large", body(xrouter={"max_turns": 1000}), "xrouter.max_turns"),
    ("simple is a number", body(xrouter={"simple": 1}), "xrouter.simple"),
    ("a weight for a named model", body(model="small", xrouter={"cost_weight": 1}), "xrouter.cost_weight"),
]


async def test_refused_with_the_field_at_fault(router: Router, url: str, mock_upstream: MockUpstream) -> None:
    """The whole table against one process, a good request after each bad one."""
    wrong: dict[str, object] = {}
    async with aiohttp.ClientSession() as http:
        for title, sent, param in BAD:
            async with http.post(url + CHAT, data=sent) as answer:
                error = (await answer.json())["error"]
                fine = (
                    answer.status == 400
                    and answer.headers["x-request-id"]
                    and set(error) == {"message", "type", "param", "code"}
                    and error["type"] == "invalid_request_error"
                    and error["param"] == param
                    and error["message"]
                )
            async with http.post(url + CHAT, data=body()) as after:
                if not fine or after.status != 200:
                    wrong[title] = (answer.status, error, after.status)
    assert wrong == {}
    assert len(router.ledger.episodes) == len(BAD), "a refused request was booked"
    assert mock_upstream.requests == []


async def test_unknown_model(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        for model in ("gpt-99", "xrouter:cheap", "xrouter:", "XROUTER", "small-id"):
            with pytest.raises(openai.NotFoundError) as caught:
                await client.chat.completions.create(model=model, messages=[USER])
            assert caught.value.code == "model_not_found"
            assert caught.value.param == "model"
            assert model in caught.value.message


async def test_paths_and_methods(url: str) -> None:
    table = [
        ("GET", CHAT, 405, "POST"),
        ("POST", "/v1/models", 405, "GET"),
        ("DELETE", "/healthz", 405, "GET"),
        ("GET", "/v1/embeddings", 405, "POST"),
        ("POST", "/v1/completions", 404, None),
        ("GET", "/", 404, None),
        ("GET", "/v1/chat/completions/", 404, None),
    ]
    async with aiohttp.ClientSession() as http:
        for method, path, status, allow in table:
            async with http.request(method, url + path) as answer:
                assert (answer.status, answer.headers.get("allow")) == (status, allow), path
                assert (await answer.json())["error"]["type"] == "invalid_request_error"


async def test_a_body_over_the_limit_by_its_declared_length(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert b" 413 " in head.splitlines()[0]
    assert json.loads(await reader.read())["error"]["code"] == "body_too_large"
    writer.close()


async def test_a_body_over_the_limit_without_a_declared_length(url: str) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 10_000
            yield b"x" * 10_000
            await asyncio.sleep(0.001)

    async with aiohttp.ClientSession() as http, http.post(url + CHAT, data=endless()) as answer:
        assert answer.status == 413
        assert (await answer.json())["error"]["code"] == "body_too_large"
    assert sent < 5_000_000


async def test_the_official_client_sees_the_413(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(
                model="xrouter", messages=[{"role": "user", "content": "x" * 150_000}]
            )
        assert caught.value.status_code == 413
        answer = await client.chat.completions.create(
            model="xrouter", messages=[{"role": "user", "content": "x" * 90_000}]
        )
    assert answer.choices[0].message.content == "fine"
