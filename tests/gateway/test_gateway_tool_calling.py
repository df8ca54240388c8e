"""A language model that decides, behind the real gateway: the answer, the trace, the books, the stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from router_llm_kit import TURN_USD, USAGE, call, says, select, tool_calling
from serving_kit import ask_then_select, make_pool, make_router, serving
from upstream import MockUpstream, by_model, ok, ok_tools, server_error

from xrouter.episodes.eligibility import Scope
from xrouter.episodes.episode import Preference
from xrouter.gateway.assignment import Assignment
from xrouter.ledger.memory import MemoryLedger
from xrouter.messages import Request
from xrouter.policies.named import Named
from xrouter.router import Router
from xrouter.settings import Settings
from xrouter.settings_tables.observability import ObservabilitySettings

ANSWER_USD = Decimal("0.000025")
"""The mock's 11 + 7 tokens at 1 and 2 USD a million."""


@asynccontextmanager
async def gateway(
    routing: MockUpstream, upstream: MockUpstream, **options: Any
) -> AsyncIterator[tuple[str, MemoryLedger]]:
    ledger = MemoryLedger()
    router = Router(
        tool_calling(routing, **options),
        pool=make_pool(upstream.base_url),
        ledger=ledger,
        settings=Settings(request_timeout_s=20.0),
    )
    async with serving(router) as url:
        yield url, ledger


async def post(url: str, **body: Any) -> tuple[int, Any]:
    sent = {"model": "xrouter", "messages": [{"role": "user", "content": "What is 3 + 4?"}], **body}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/chat/completions", json=sent) as answer,
    ):
        if answer.content_type != "text/event-stream":
            return answer.status, await answer.json()
        events = (await answer.text()).split("\n\n")
        return answer.status, [json.loads(e[6:]) for e in events if e.startswith("data: {")]


async def test_an_answer_says_what_was_decided_and_what_that_cost(mock_upstream: MockUpstream) -> None:
    with MockUpstream(ok("The answer is 7.")) as upstream:
        mock_upstream.script(
            says(call("call_ghost")), says(call("call_small"), call("call_big", id_="a2")), says(select("c2"))
        )
        async with gateway(mock_upstream, upstream) as (url, ledger):
            status, body = await post(url)
    assert status == 200
    assert body["choices"][0]["message"]["content"] == "The answer is 7."
    routing = body["xrouter"]
    assert (routing["route"], routing["policy"], routing["policy_version"]) == (
        [["small", "big"]],
        "tool-calling",
        "router-7b",
    )
    assert Decimal(routing["cost_usd"]) == 3 * TURN_USD + 2 * ANSWER_USD
    first, second, third = routing["decisions"]
    assert (first["action"], first["problems"], first["calls"]) == ("none", {"unknown_tool": 1}, [])
    assert (second["action"], second["calls"], second["problems"]) == ("call", ["c1", "c2"], {})
    assert (third["action"], third["fallback"]) == ("select", None)
    assert {d["model"] for d in routing["decisions"]} == {"router-7b"}
    assert sum(Decimal(d["cost_usd"]) for d in routing["decisions"]) == 3 * TURN_USD
    assert first["prompt_tokens"] == USAGE["prompt_tokens"]
    assert first["latency_ms"] > 0

    (episode,) = ledger.episodes
    assert episode.cost_usd == sum(row.cost_usd for row in ledger.calls)
    assert [(row.kind, row.model, row.error) for row in ledger.calls if row.kind == "policy"] == [
        ("policy", "router-7b", "unknown_tool"),
        ("policy", "router-7b", None),
        ("policy", "router-7b", None),
    ]


async def test_a_direct_answer(mock_upstream: MockUpstream) -> None:
    with MockUpstream() as upstream:
        mock_upstream.script(says(text="Hello there!"))
        async with gateway(mock_upstream, upstream) as (url, _):
            status, body = await post(url)
        assert upstream.requests == []
    assert (status, body["choices"][0]["message"]["content"], body["model"]) == (
        200,
        "Hello there!",
        "tool-calling",
    )
    assert body["xrouter"]["decisions"][0]["action"] == "answer"
    assert Decimal(body["xrouter"]["cost_usd"]) == TURN_USD


async def test_simple_mode_streams_the_model_as_it_writes(mock_upstream: MockUpstream) -> None:
    with MockUpstream(ok("one two three")) as upstream:
        mock_upstream.script(says(call("call_small")))
        async with gateway(mock_upstream, upstream) as (url, ledger):
            _, events = await post(url, stream=True, xrouter={"simple": True})
        assert upstream.requests[0].body["stream"] is True, "asked for as a stream"
    text = "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"])
    assert text == "one two three"
    assert events[-1]["xrouter"]["stop_reason"] == "simple"
    assert events[-1]["xrouter"]["decisions"][0]["action"] == "call"
    assert len(ledger.calls) == 2


async def test_a_direct_answer_streams_whole(mock_upstream: MockUpstream) -> None:
    with MockUpstream() as upstream:
        mock_upstream.script(says(text="Hello there!"))
        async with gateway(mock_upstream, upstream) as (url, _):
            _, events = await post(url, stream=True)
    text = "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"])
    assert text == "Hello there!"


async def test_an_endpoint_that_is_down_shows(mock_upstream: MockUpstream) -> None:
    mock_upstream.default = server_error()
    with MockUpstream(ok("The answer is 7.")) as upstream:
        async with gateway(mock_upstream, upstream) as (url, ledger):
            status, body = await post(url)
    routing = body["xrouter"]
    assert status == 200
    assert routing["degraded"].startswith("router-7b could not decide")
    assert routing["decisions"][0]["fallback"] == routing["degraded"]
    assert routing["decisions"][0]["problems"] == {"router_unavailable": 1}
    assert ledger.episodes[0].degraded == routing["degraded"]


async def test_an_endpoint_that_is_down_can_be_an_error(mock_upstream: MockUpstream) -> None:
    mock_upstream.default = server_error()
    with MockUpstream() as upstream:
        async with gateway(mock_upstream, upstream, on_failure="error") as (url, ledger):
            status, body = await post(url)
        assert upstream.requests == []
    assert status == 502
    assert body["error"]["code"] == "upstream_unavailable"
    assert ledger.episodes[0].error is not None


async def test_client_tools_come_back_to_the_client(mock_upstream: MockUpstream) -> None:
    weather = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    mock_upstream.script(says(call("call_small")), says(select("c1")))
    with MockUpstream(by_model({"small-id": ok_tools()})) as upstream:
        async with gateway(mock_upstream, upstream) as (url, _):
            _, body = await post(url, tools=[weather])
        assert upstream.requests[0].body["tools"] == [weather]
    (wanted,) = body["choices"][0]["message"]["tool_calls"]
    assert wanted["function"]["name"] == "get_weather"
    assert body["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_dry_run_is_refused_since_deciding_costs_money(mock_upstream: MockUpstream) -> None:
    with MockUpstream() as upstream:
        async with gateway(mock_upstream, upstream) as (url, ledger):
            status, body = await post(url, xrouter={"dry_run": True})
    assert status == 400
    assert "asks a language model to decide" in body["error"]["message"]
    assert mock_upstream.requests == []
    assert ledger.episodes == []


def test_a_budget_sets_the_decisions_aside_too(mock_upstream: MockUpstream) -> None:
    request = Request.from_text("What is 3 + 4?")
    worst = []
    for policy in (tool_calling(mock_upstream), ask_then_select("small")):
        router = make_router(mock_upstream.base_url, policy)
        kinds = (None, Named(("small",), policy), Named(("small",)))
        worst.append(
            [
                Assignment(kind, Preference(), Scope(), ("small",), {}).worst_cost_usd(router, request)
                for kind in kinds
            ]
        )
    (paid, paid_later, named), (free, free_later, free_named) = worst
    assert paid - free == paid_later - free_later > 2 * TURN_USD
    assert named == free_named


async def test_decisions_are_counted_among_the_calls(mock_upstream: MockUpstream) -> None:
    pytest.importorskip("prometheus_client")
    with MockUpstream(ok("The answer is 7.")) as upstream:
        mock_upstream.script(says(call("call_small")), says(select("c1")))
        router = Router(
            tool_calling(mock_upstream),
            pool=make_pool(upstream.base_url),
            ledger=MemoryLedger(),
            settings=Settings(observability=ObservabilitySettings(metrics=True)),
        )
        async with serving(router) as url:
            await post(url)
            async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
                shown = await answer.text()
    assert 'xrouter_upstream_calls_total{model="router-7b",outcome="ok"} 2.0' in shown
    assert 'xrouter_upstream_calls_total{model="small",outcome="ok"} 1.0' in shown


async def test_answers_of_policies_without_a_model_have_no_decisions() -> None:
    with MockUpstream() as upstream:
        router = Router(
            "cheapest", pool=make_pool(upstream.base_url), ledger=MemoryLedger(), settings=Settings()
        )
        async with serving(router) as url:
            _, body = await post(url)
    assert "decisions" not in body["xrouter"]
