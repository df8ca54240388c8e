"""Keys, budgets, limits, caches, guardrails, metrics and traces as a client of the wired gateway meets them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from accounts_kit import budget
from serving_kit import ask_then_select, make_router
from upstream import MockUpstream, ok, server_error

from xrouter.accounts.key import VirtualKey, hash_of, new_secret, shown
from xrouter.accounts.memory import MemoryAccounts
from xrouter.errors import GuardrailRefusal
from xrouter.gateway.app import Gateway
from xrouter.gateway.assignment import Assignment
from xrouter.gateway.server import bind, running, url_of
from xrouter.gateway.services import Services, open_services
from xrouter.messages import Completion, Request
from xrouter.settings import Settings
from xrouter.settings_tables.access import Limits
from xrouter.settings_tables.cache import CacheSettings
from xrouter.settings_tables.guardrails import GuardrailSettings
from xrouter.settings_tables.observability import ObservabilitySettings

SECRET = new_secret()
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def key(**fields: Any) -> VirtualKey:
    return VirtualKey("k1", "test", hash_of(SECRET), shown(SECRET), 0.0, **fields)


@asynccontextmanager
async def gateway(
    upstream: MockUpstream, *keys: VirtualKey, policy: Any = None, **settings: Any
) -> AsyncIterator[tuple[str, Services]]:
    accounts = MemoryAccounts()
    for each in keys:
        await accounts.add_key(each)
    router = make_router(
        upstream.base_url, policy or ask_then_select("small"), settings=replace(Settings(), **settings)
    )
    services = open_services(router, accounts=accounts)
    listener = bind("127.0.0.1", 0)
    async with running(Gateway(router, services), listener):
        yield url_of(listener), services


async def ask(
    url: str, body: dict[str, Any] | None = None, secret: str | None = SECRET, **headers: str
) -> tuple[int, Any, Any]:
    body = {"model": "xrouter", "messages": [{"role": "user", "content": "Hi"}], **(body or {})}
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if secret is not None:
        sent["authorization"] = f"Bearer {secret}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/chat/completions", json=body, headers=sent) as answer,
    ):
        content = await (answer.json() if answer.content_type == "application/json" else answer.read())
        return answer.status, content, answer.headers


async def test_once_there_is_a_key_every_request_needs_one(mock_upstream: MockUpstream) -> None:
    async with gateway(mock_upstream) as (url, _):
        assert (await ask(url, secret=None))[0] == 200
    async with gateway(mock_upstream, key()) as (url, services):
        for secret in (None, "sk-other", new_secret()):
            status, answer, _ = await ask(url, secret=secret)
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
        status, _, _ = await ask(url)
        assert status == 200
        (entry,) = services.router.ledger.episodes
        assert entry.key_id == "k1"


async def test_a_key_for_one_model_narrows_the_policys_pool(mock_upstream: MockUpstream) -> None:
    policy = ask_then_select("small", "big")
    async with gateway(mock_upstream, key(models=("small",)), policy=policy) as (url, _):
        status, answer, _ = await ask(url)
        assert (status, answer["xrouter"]["route"]) == (200, [["small"]])
        status, answer, _ = await ask(url, {"model": "big"})
        assert (status, answer["error"]["code"]) == (403, "not_allowed")
        async with (
            aiohttp.ClientSession(headers={"authorization": f"Bearer {SECRET}"}) as session,
            session.get(f"{url}/v1/models") as listed,
        ):
            names = [each["id"] for each in (await listed.json())["data"]]
        assert "small" in names
        assert "big" not in names


async def test_a_budget_caps_what_runs_at_once_and_the_books_add_up(mock_upstream: MockUpstream) -> None:
    mock_upstream.default = ok("yes", delay_s=0.05)
    async with gateway(mock_upstream, key(budgets=(budget("0.002", "total"),))) as (url, services):
        body = {"model": "small", "max_tokens": 100}
        answers = await asyncio.gather(*(ask(url, body) for _ in range(60)))
        statuses = [status for status, _, _ in answers]
        assert set(statuses) == {200, 429}
        refused = next(answer for status, answer, _ in answers if status == 429)
        assert refused["error"]["code"] == "budget_exhausted"
        (spent,) = await services.router.ledger.spent(["key:k1/total"])
        episodes = services.router.ledger.episodes
        assert spent.cost_usd == sum((entry.cost_usd for entry in episodes), Decimal(0)) <= Decimal("0.002")
        _, _, headers = answers[statuses.index(200)]
        assert Decimal(headers["x-xrouter-key-spend-usd"]) > 0
        assert Decimal(headers["x-xrouter-budget-left-usd"]) < Decimal("0.002")
        status, _, _ = await ask(url, body)
        assert status == 200, "what the others had set aside is free again"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_request_gives_its_reservation_back(mock_upstream: MockUpstream, stream: bool) -> None:
    mock_upstream.default = server_error()
    async with gateway(mock_upstream, key(budgets=(budget("0.001", "total"),))) as (url, _):
        for _ in range(3):
            status, _, _ = await ask(url, {"model": "small", "max_tokens": 100, "stream": stream})
            assert status == 502
        mock_upstream.default = ok("fine")
        status, _, _ = await ask(url, {"model": "small", "max_tokens": 100, "stream": stream})
        assert status == 200


async def test_the_worst_cost_is_worked_out_only_where_it_may_matter(
    mock_upstream: MockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, looked = Assignment.worst_cost_usd, []

    def worst_cost_usd(self: Assignment, *given: Any) -> Decimal:
        looked.append(self)
        return real(self, *given)

    monkeypatch.setattr(Assignment, "worst_cost_usd", worst_cost_usd)
    cases: list[tuple[dict[str, Any], dict[str, Any], int]] = [
        ({}, {}, 0),
        ({}, {"x_xrouter_tags": "search"}, 1),
        ({"budgets": (budget("1"),)}, {}, 2),
        ({"tags": ("search",)}, {}, 3),
    ]
    for fields, more, times in cases:
        async with gateway(mock_upstream, key(**fields)) as (url, _):
            status, _, _ = await ask(url, **more)
            assert (status, len(looked)) == (200, times)


async def test_too_many_requests_a_minute(mock_upstream: MockUpstream) -> None:
    async with gateway(mock_upstream, key(limits=Limits(requests_per_minute=2))) as (url, _):
        statuses = [(await ask(url))[0] for _ in range(3)]
        assert statuses == [200, 200, 429]
        _, answer, headers = await ask(url)
        assert answer["error"]["type"] == "rate_limit_error"
        assert 0 < int(headers["retry-after"]) <= 60


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_from_the_cache_costs_nothing(mock_upstream: MockUpstream, stream: bool) -> None:
    async with gateway(mock_upstream, cache=CacheSettings(exact=True)) as (url, services):
        status, first, headers = await ask(url, {"temperature": 0})
        assert (status, headers["x-xrouter-cache"]) == (200, "miss")
        status, again, headers = await ask(url, {"temperature": 0, "stream": stream})
        assert (status, headers["x-xrouter-cache"]) == (200, "exact")
        if stream:
            assert b"Hello." in again
            assert again.endswith(b"data: [DONE]\n\n")
        else:
            assert again["choices"] == first["choices"]
            assert again["id"] != first["id"]
            assert again["xrouter"]["cost_usd"] == "0"
            assert again["xrouter"]["cache"]["saved_usd"] == first["xrouter"]["cost_usd"]
        assert len(mock_upstream.requests) == 1
        hit = services.router.ledger.episodes[-1]
        assert (hit.cost_usd, hit.cache, hit.route) == (0, "exact", "cache")
        assert hit.saved_usd == Decimal(first["xrouter"]["cost_usd"])
        _, _, headers = await ask(url, {"temperature": 0}, cache_control="no-cache")
        assert headers["x-xrouter-cache"] == "miss"
        assert len(mock_upstream.requests) == 2


async def test_one_keys_answers_are_not_anothers(mock_upstream: MockUpstream) -> None:
    other = new_secret()
    second = VirtualKey("k2", "other", hash_of(other), shown(other), 0.0)
    async with gateway(mock_upstream, key(), second, cache=CacheSettings(exact=True)) as (url, _):
        statuses = [
            (await ask(url, secret=secret))[2]["x-xrouter-cache"] for secret in (SECRET, other, other)
        ]
    assert statuses == ["miss", "miss", "exact"]


def no_bombs(request: Request) -> None:
    if "bomb" in request.query:
        raise GuardrailRefusal("not about bombs")


def shout(request: Request, completion: Completion) -> Completion:
    return replace(completion, message={**completion.message, "content": completion.text.upper()}, raw={})


@pytest.mark.parametrize("stream", [False, True])
async def test_guardrails_before_and_after(mock_upstream: MockUpstream, stream: bool) -> None:
    hooks = GuardrailSettings(before=(f"{__name__}:no_bombs",), after=(f"{__name__}:shout",))
    async with gateway(mock_upstream, guardrails=hooks) as (url, _):
        status, answer, _ = await ask(url, {"messages": [{"role": "user", "content": "a bomb?"}]})
        assert (status, answer["error"]["code"]) == (400, "guardrail_refused")
        assert not mock_upstream.requests
        for model in ("xrouter", "small"):
            _, answer, _ = await ask(url, {"stream": stream, "model": model})
            text = answer if stream else answer["choices"][0]["message"]["content"].encode()
            assert b"HELLO." in text
            assert b"Hello." not in text


async def test_metrics_and_readiness(mock_upstream: MockUpstream) -> None:
    async with gateway(mock_upstream) as (url, _):
        await ask(url)
        await ask(url, {"model": "nobody"})
        async with aiohttp.ClientSession() as session:

            async def get(path: str) -> tuple[int, str]:
                async with session.get(f"{url}{path}") as answer:
                    return answer.status, await answer.text()

            status, text = await get("/metrics")
            assert status == 200
            assert 'status="200"' in text
            assert 'status="404"' in text
            assert "nobody" not in text, "what clients make up is no label"
            assert (await get("/readyz"))[0] == 200
            async with session.post(f"{url}/drain") as answer:
                assert answer.status == 200
            status, text = await get("/readyz")
            assert status == 503
            assert "drain" in text
            assert (await get("/healthz"))[0] == 200
        assert (await ask(url))[0] == 503


async def test_a_trace_goes_through(mock_upstream: MockUpstream) -> None:
    async with gateway(mock_upstream) as (url, services):
        _, _, headers = await ask(url, traceparent=TRACE)
        assert headers["traceparent"].split("-")[1] == TRACE.split("-")[1]
        (entry,) = services.router.ledger.episodes
        assert entry.trace_id == TRACE.split("-")[1]


async def test_prompts_are_stored_only_where_that_is_turned_on(
    mock_upstream: MockUpstream, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "prompts.jsonl"
    body = {"messages": [{"role": "user", "content": "the word is wombat"}]}
    async with gateway(mock_upstream, key(), observability=ObservabilitySettings(log="json")) as (
        url,
        services,
    ):
        await ask(url, body)
        await ask(url, {**body, "model": "nobody"})
        rows = repr(services.router.ledger.episodes) + repr(services.router.ledger.calls)
    logged = capsys.readouterr().err
    assert '"status":200' in logged
    assert '"key_id":"k1"' in logged
    for text in (rows, logged):
        assert "wombat" not in text
        assert SECRET not in text
    async with gateway(
        mock_upstream, key(), observability=ObservabilitySettings(log="json", store_prompts=path)
    ) as (url, _):
        await ask(url, body)
    assert "wombat" in path.read_text()
    assert SECRET not in path.read_text()
