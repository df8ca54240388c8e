"""Upstreams that fail, hang or break off, clients that leave, and faults of our own: clear errors, right books."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from decimal import Decimal
from typing import Any

import aiohttp
import openai
import pytest
from serving_kit import ScriptedPolicy, ask_then_select, make_router, serving
from upstream import (
    Behaviour,
    MockUpstream,
    broken_sse,
    by_model,
    error,
    half_json,
    hang,
    hang_after,
    ok,
    rate_limited,
    server_error,
    wrong_content_type,
)

from xrouter.errors import LedgerError
from xrouter.ledger.memory import MemoryLedger
from xrouter.router import Router

CHAT = "/v1/chat/completions"
ASK = [{"role": "user", "content": "a secret question"}]


@pytest.fixture
async def router(mock_upstream: MockUpstream) -> Router:
    return make_router(mock_upstream.base_url)


@pytest.fixture
async def url(router: Router) -> AsyncIterator[str]:
    async with serving(router) as url:
        yield url


@pytest.fixture
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


async def assert_alive(client: openai.AsyncOpenAI, upstream: MockUpstream) -> None:
    upstream.default = ok("still here")
    answer = await client.chat.completions.create(model="small", messages=ASK)
    assert answer.choices[0].message.content == "still here"


def assert_books_balance(router: Router) -> None:
    """Every call belongs to a booked episode, and each episode's cost is the sum of its calls."""
    for entry in router.ledger.episodes:
        calls = [call for call in router.ledger.calls if call.episode_id == entry.episode_id]
        assert sum((call.cost_usd for call in calls), Decimal(0)) == entry.cost_usd
    assert {call.episode_id for call in router.ledger.calls} <= {
        entry.episode_id for entry in router.ledger.episodes
    }


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        (rate_limited("7"), 429),
        (server_error(503), 502),
        (error(401, "bad key"), 502),
        (error(400, "no such parameter"), 400),
        (wrong_content_type(), 502),
        (half_json(), 502),
    ],
    ids=["rate limit", "server error", "key refused", "refused request", "html", "half json"],
)
async def test_a_named_model_that_fails(
    router: Router,
    client: openai.AsyncOpenAI,
    mock_upstream: MockUpstream,
    behaviour: Behaviour,
    status: int,
    stream: bool,
) -> None:
    mock_upstream.default = behaviour
    with pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(model="small", messages=ASK, stream=stream)
    assert caught.value.status_code == status
    if status == 429:
        assert caught.value.response.headers["retry-after"] == "7"
    assert "sk-secret" not in caught.value.message
    (entry,) = router.ledger.episodes
    assert entry.stop_reason == "failed"
    assert entry.error
    assert "secret" not in entry.error
    assert_books_balance(router)
    await assert_alive(client, mock_upstream)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_named_model_that_times_out(
    router: Router, client: openai.AsyncOpenAI, mock_upstream: MockUpstream, stream: bool
) -> None:
    mock_upstream.default = hang()
    with pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(
            model="small", messages=ASK, stream=stream, extra_body={"xrouter": {"deadline_s": 0.2}}
        )
    assert caught.value.status_code == 504
    assert await mock_upstream.requests[0].wait_disconnected()
    assert len(router.ledger.episodes) == 1
    assert_books_balance(router)
    await assert_alive(client, mock_upstream)


@pytest.mark.parametrize("kind", ["no_end", "cut", "bad_json", "error", "not_object"])
async def test_a_stream_that_breaks_ends_with_an_error_event(
    router: Router, client: openai.AsyncOpenAI, mock_upstream: MockUpstream, kind: str
) -> None:
    mock_upstream.default = broken_sse(kind)
    text = []
    stream = client.chat.completions.create(model="small", messages=ASK, stream=True)
    with pytest.raises(openai.APIError) as caught:
        await _read_text(stream, text)
    assert not isinstance(caught.value, openai.APIConnectionError), "a silent cut"
    assert text in (["Hel"], [])
    (entry,) = router.ledger.episodes
    assert entry.stop_reason == "failed"
    assert entry.cost_usd > 0
    assert_books_balance(router)
    await assert_alive(client, mock_upstream)


@pytest.mark.parametrize(
    "behaviour", [rate_limited("7"), server_error(500), half_json()], ids=["429", "500", "half"]
)
async def test_every_call_of_an_episode_fails(
    router: Router, client: openai.AsyncOpenAI, mock_upstream: MockUpstream, behaviour: Behaviour
) -> None:
    mock_upstream.default = behaviour
    with pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(model="xrouter", messages=ASK, stream=True)
    assert caught.value.status_code in (429, 502, 504)
    (entry,) = router.ledger.episodes
    assert entry.error
    assert router.ledger.calls
    assert_books_balance(router)
    await assert_alive(client, mock_upstream)


async def test_a_deadline_without_any_answer(
    router: Router, client: openai.AsyncOpenAI, mock_upstream: MockUpstream
) -> None:
    mock_upstream.default = hang()
    with pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(
            model="xrouter", messages=ASK, extra_body={"xrouter": {"deadline_s": 0.2}}
        )
    assert caught.value.status_code == 504
    assert len(router.ledger.episodes) == 1
    assert_books_balance(router)
    await assert_alive(client, mock_upstream)


@pytest.mark.parametrize("model", ["xrouter", "small"])
async def test_a_cap_that_no_call_fits_under(
    router: Router, client: openai.AsyncOpenAI, mock_upstream: MockUpstream, model: str
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(
            model=model, messages=ASK, extra_body={"xrouter": {"max_cost_usd": 0}}
        )
    assert caught.value.status_code == 402
    assert caught.value.code == "budget_exceeded"
    assert mock_upstream.requests == []


@pytest.mark.parametrize("model", ["xrouter", "small"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_hangs_up_cancels_the_upstream_and_is_booked(
    router: Router, url: str, mock_upstream: MockUpstream, model: str, stream: bool
) -> None:
    mock_upstream.default = hang_after("Hel") if stream and model == "small" else hang()
    async with aiohttp.ClientSession() as http:
        body = {"model": model, "messages": ASK, "stream": stream}
        asking = asyncio.create_task(_read_all(http, url + CHAT, body))
        await mock_upstream.wait_requests(1)
        await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert await mock_upstream.requests[0].wait_disconnected()
    async with asyncio.timeout(3):
        while not router.ledger.episodes:  # noqa: ASYNC110 - the ledger has no event to wait for
            await asyncio.sleep(0.01)
    (entry,) = router.ledger.episodes
    assert entry.error
    assert entry.cost_usd > 0, "the prompt was sent, so it is paid for"
    assert_books_balance(router)


async def _read_text(asking: Awaitable[Any], text: list[str]) -> None:
    """Append what comes; a finished answer is a failed test."""
    async for chunk in await asking:
        assert not any(choice.finish_reason for choice in chunk.choices)
        text += [choice.delta.content for choice in chunk.choices if choice.delta.content]


async def _read_all(http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> bytes:
    async with http.post(url, json=body) as answer:
        return await answer.read()


async def test_a_fault_in_the_policy_is_a_500_that_keeps_the_prompt_to_itself(
    mock_upstream: MockUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    def decide(observation):
        if observation.responses:
            raise ValueError(f"cannot handle {observation.request.query}")
        return ask_then_select("small")._decide(observation)

    router = make_router(mock_upstream.base_url, ScriptedPolicy(decide))
    caplog.set_level(logging.DEBUG, logger="xrouter")
    async with (
        serving(router) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="xrouter", messages=ASK)
        await assert_alive(client, mock_upstream)
    assert caught.value.response.headers["x-request-id"] in caught.value.message
    assert "secret question" not in caught.value.message
    assert "secret question" not in caplog.text
    assert "ValueError" in caplog.text
    failed = router.ledger.episodes[0]
    assert failed.error
    assert failed.cost_usd == Decimal("0.000025"), "the call before the fault was paid for"
    assert_books_balance(router)


class BrokenLedger(MemoryLedger):
    async def book(self, episode: Any, calls: Any, scopes: Any = ()) -> Any:
        raise LedgerError("the disk is full")


@pytest.mark.parametrize("model", ["xrouter", "small"])
@pytest.mark.parametrize("stream", [False, True])
async def test_no_answer_without_its_rows(mock_upstream: MockUpstream, model: str, stream: bool) -> None:
    router = make_router(mock_upstream.base_url)
    router.ledger = BrokenLedger()
    async with (
        serving(router) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        asking = client.chat.completions.create(model=model, messages=ASK, stream=stream)
        with pytest.raises(openai.APIError) as caught:
            await _read_text(asking, [])
    assert caught.value.code == "ledger_error"


async def test_one_of_two_models_answers(mock_upstream: MockUpstream) -> None:
    mock_upstream.default = by_model({"small-id": hang(), "big-id": ok("in time")})
    router = make_router(mock_upstream.base_url, ask_then_select("small", "big"))
    async with (
        serving(router) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        answer = await client.chat.completions.create(
            model="xrouter", messages=ASK, extra_body={"xrouter": {"deadline_s": 0.5}}
        )
    assert answer.choices[0].message.content == "in time"
    assert_books_balance(router)


async def test_shutting_down_answers_and_books_what_is_under_way(mock_upstream: MockUpstream) -> None:
    mock_upstream.default = hang()
    router = make_router(mock_upstream.base_url)
    async with openai.AsyncOpenAI(base_url="http://x/v1", api_key="none", max_retries=0) as client:
        async with serving(router, grace_s=0) as url:
            client.base_url = f"{url}/v1"
            asking = asyncio.create_task(client.chat.completions.create(model="xrouter", messages=ASK))
            await mock_upstream.wait_requests(1)
        with pytest.raises(openai.InternalServerError) as caught:
            await asking
    assert caught.value.status_code == 503
    assert len(router.ledger.episodes) == 1
    assert_books_balance(router)
