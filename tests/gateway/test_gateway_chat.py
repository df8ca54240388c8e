"""The gateway over a real socket, called with the official client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal

import aiohttp
import openai
import pytest
from serving_kit import NAMES, ScriptedPolicy, answers_directly, ask_then_select, make_router, serving
from upstream import TOOL_CALLS, MockUpstream, by_model, completion_body, ok, ok_tools, raw, server_error

from xrouter.episodes.episode import Call, CallModels, Select, Synthesis
from xrouter.policies.arrays import ServedPolicy
from xrouter.policies.baselines import Cheapest
from xrouter.router import Router

ASK = [{"role": "user", "content": "What is 6 * 7?"}]


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


async def test_answer_has_openais_shape_and_the_routing(
    client: openai.AsyncOpenAI, mock_upstream: MockUpstream
) -> None:
    mock_upstream.default = ok("It is 42.")
    answer = await client.chat.completions.create(model="xrouter", messages=ASK)

    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == "small"
    assert answer.choices[0].message.content == "It is 42."
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 7)
    routing = answer.model_extra["xrouter"]
    assert routing["route"] == [["small"]]
    assert routing["stop_reason"] == "selected"
    assert routing["cost_usd"] == "0.000025"  # 11 tokens at 1 USD and 7 at 2 USD a million
    assert routing["reference_model"] == "big"
    assert Decimal(routing["reference_cost_usd"]) > 0
    assert routing["confidence"] == 0.75
    assert (routing["policy"], routing["policy_version"]) == ("scripted", "7")
    assert routing["degraded"] is None
    assert routing["simulated"] is False
    (call,) = routing["calls"]
    assert call["model"] == "small"
    assert call["cost_usd"] == "0.000025"
    assert (call["prompt_tokens"], call["completion_tokens"]) == (11, 7)
    assert call["error"] is None
    assert call["latency_ms"] > 0


async def test_headers(url: str) -> None:
    async with aiohttp.ClientSession() as http:
        body = {"model": "xrouter", "messages": ASK}
        async with http.post(
            f"{url}/v1/chat/completions", json=body, headers={"x-request-id": "mine-1"}
        ) as answer:
            assert answer.headers["x-request-id"] == "mine-1"
            assert answer.headers["x-xrouter-cost-usd"] == "0.000025"
            assert answer.headers["x-xrouter-route"] == "small"
        async with http.post(
            f"{url}/v1/chat/completions", json=body, headers={"x-request-id": "two words"}
        ) as answer:
            assert answer.headers["x-request-id"].startswith("req_")


async def test_rows_are_committed_before_the_answer(router: Router, client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="xrouter", messages=ASK)
    (entry,) = router.ledger.episodes
    assert answer.id == f"chatcmpl-{entry.episode_id}"
    assert [call.cost_usd for call in router.ledger.calls] == [Decimal("0.000025")]


@pytest.mark.parametrize("model", ["xrouter", "small"])
@pytest.mark.parametrize("include_usage", [False, True])
async def test_streaming(
    client: openai.AsyncOpenAI, mock_upstream: MockUpstream, model: str, include_usage: bool
) -> None:
    mock_upstream.default = ok("Six times seven\n is  42.")
    options = {"stream_options": {"include_usage": True}} if include_usage else {}
    stream = await client.chat.completions.create(model=model, messages=ASK, stream=True, **options)
    chunks = [chunk async for chunk in stream]

    assert chunks[0].choices[0].delta.role == "assistant"
    deltas = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in deltas) == "Six times seven\n is  42."
    assert [choice.finish_reason for choice in deltas if choice.finish_reason] == ["stop"]
    assert len(chunks) > 4
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.model for chunk in chunks} == {"small"}
    *others, last = chunks
    assert last.model_extra["xrouter"]["cost_usd"] == "0.000025"
    assert last.model_extra["xrouter"]["route"] == [["small"]]
    assert not any("xrouter" in chunk.model_extra for chunk in others)
    assert all(chunk.usage is None for chunk in others)
    if include_usage:
        assert last.choices == []
        assert last.usage.total_tokens == 18
    else:
        assert last.usage is None
        assert all(chunk.choices for chunk in chunks)


async def test_a_named_model_streams_as_it_answers(
    client: openai.AsyncOpenAI, mock_upstream: MockUpstream
) -> None:
    mock_upstream.default = ok("one two three four", delay_s=0.15)
    loop = asyncio.get_running_loop()
    started = loop.time()
    seen = [
        loop.time() - started
        async for _ in await client.chat.completions.create(model="small", messages=ASK, stream=True)
    ]
    assert seen[-1] - seen[0] > 0.4, "the chunks came all at once"


async def test_a_named_model_is_passed_through(
    router: Router, client: openai.AsyncOpenAI, mock_upstream: MockUpstream
) -> None:
    answer = await client.chat.completions.create(model="big", messages=ASK)
    assert answer.model == "big"
    assert mock_upstream.requests[0].body["model"] == "big-id"
    assert answer.model_extra["xrouter"]["stop_reason"] == "selected"
    assert router.policy.seen == []
    (entry,) = router.ledger.episodes
    assert (entry.policy, entry.stop_reason, entry.answer_model) == ("passthrough", "selected", "big")


@pytest.mark.parametrize("model", ["xrouter", "small"])
@pytest.mark.parametrize("stream", [False, True])
async def test_everything_the_client_sent_reaches_the_model(
    client: openai.AsyncOpenAI, mock_upstream: MockUpstream, model: str, stream: bool
) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather in Oslo?"}]},
        {"role": "assistant", "content": None, "tool_calls": list(TOOL_CALLS)},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        {"role": "user", "content": "And now?", "name": "ada"},
    ]
    params = {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
        "temperature": 0.25,
        "top_p": 0.5,
        "seed": 3,
        "stop": ["END"],
        "max_tokens": 33,
        "logit_bias": {"50256": -100},
    }
    await client.chat.completions.create(
        model=model, messages=messages, stream=stream, **params, extra_body={"top_k": 5}
    )
    sent = mock_upstream.requests[0].body
    assert sent["messages"] == messages
    assert {name: sent[name] for name in params} == params
    assert sent["top_k"] == 5
    assert "xrouter" not in sent


@pytest.mark.parametrize("model", ["xrouter", "small"])
async def test_tool_calls_come_back(
    client: openai.AsyncOpenAI, mock_upstream: MockUpstream, model: str
) -> None:
    mock_upstream.default = ok_tools()
    answer = await client.chat.completions.create(model=model, messages=ASK)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.tool_calls[0].function.arguments == '{"city":"Oslo"}'

    async with client.chat.completions.stream(model=model, messages=ASK) as stream:
        whole = await stream.get_final_completion()
    (call,) = whole.choices[0].message.tool_calls
    assert (call.id, call.function.name) == ("call_1", "get_weather")
    assert call.function.arguments == '{"city":"Oslo"}'
    assert whole.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize(("preset", "weight"), [("quality", 0.01), ("balanced", 0.1), ("economy", 1.0)])
async def test_presets(router: Router, client: openai.AsyncOpenAI, preset: str, weight: float) -> None:
    await client.chat.completions.create(model=f"xrouter:{preset}", messages=ASK)
    assert router.policy.seen[0].preference.cost_weight == weight


async def test_the_xrouter_object_steers_the_policy(router: Router, client: openai.AsyncOpenAI) -> None:
    options = {"cost_weight": 0, "max_cost_usd": "0.05", "deadline_s": 5, "max_turns": 2, "simple": True}
    await client.chat.completions.create(model="xrouter", messages=ASK, extra_body={"xrouter": options})
    preference = router.policy.seen[0].preference
    assert preference.cost_weight == 0
    assert preference.max_cost_usd == Decimal("0.05")
    assert preference.deadline_s == 5
    assert preference.max_turns == 2
    assert preference.simple is True


@pytest.mark.parametrize(("target", "reached"), [(0.75, True), (0.76, False)])
async def test_an_answer_short_of_the_target_quality_says_so(
    router: Router, client: openai.AsyncOpenAI, target: float, reached: bool
) -> None:
    options = {"target_quality": target}
    answer = await client.chat.completions.create(
        model="xrouter", messages=ASK, extra_body={"xrouter": options}
    )
    assert router.policy.seen[0].preference.target_quality == target
    routing = answer.model_extra["xrouter"]
    said = None if reached else "target_quality 0.76 not reached: 0.75"
    assert (routing["confidence"], routing["degraded"]) == (0.75, said)
    (entry,) = router.ledger.episodes
    assert (entry.target_quality, entry.confidence, entry.degraded) == (target, 0.75, said)


async def test_a_target_quality_needs_a_policy_that_is_confident(router: Router, url: str) -> None:
    router.policy = ServedPolicy(Cheapest())
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"{url}/v1/chat/completions",
            json={"model": "xrouter", "messages": ASK, "xrouter": {"target_quality": 0.9}},
        ) as reply,
    ):
        assert reply.status == 400
        error = (await reply.json())["error"]
    assert error["param"] == "xrouter.target_quality"
    assert "'cheapest' states none: give cost_weight or a preset instead" in error["message"]


async def test_no_deadline_reaches_beyond_the_settings(router: Router, client: openai.AsyncOpenAI) -> None:
    await client.chat.completions.create(
        model="xrouter", messages=ASK, extra_body={"xrouter": {"deadline_s": 9999}}
    )
    assert router.policy.seen[0].preference.deadline_s == router.settings.request_timeout_s


async def test_parallel_calls_and_a_failed_one(mock_upstream: MockUpstream) -> None:
    mock_upstream.default = by_model({"small-id": server_error(), "big-id": ok("good")})
    router = make_router(mock_upstream.base_url, ask_then_select("small", "big"))
    async with (
        serving(router) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        answer = await client.chat.completions.create(model="xrouter", messages=ASK)
    routing = answer.model_extra["xrouter"]
    assert answer.model == "big"
    assert routing["route"] == [["small", "big"]]
    assert routing["calls"][0]["error"]
    assert routing["calls"][1]["error"] is None
    assert len(router.ledger.calls) == 2
    assert sum(call.cost_usd for call in router.ledger.calls) == Decimal(routing["cost_usd"])


async def test_a_direct_answer_and_a_synthesis(mock_upstream: MockUpstream) -> None:
    def synthesise(observation):
        if observation.responses:
            return Synthesis("together: 42")
        return CallModels((Call("small"),))

    for policy, text, reason in (
        (answers_directly("hello yourself"), "hello yourself", "direct"),
        (ScriptedPolicy(synthesise), "together: 42", "synthesised"),
    ):
        router = make_router(mock_upstream.base_url, policy)
        async with (
            serving(router) as url,
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
        ):
            answer = await client.chat.completions.create(model="xrouter", messages=ASK)
        assert answer.choices[0].message.content == text
        assert answer.choices[0].message.role == "assistant"
        assert answer.model_extra["xrouter"]["stop_reason"] == reason
        assert answer.model == "scripted"


async def test_concurrent_requests_share_no_state(mock_upstream: MockUpstream) -> None:
    def decide(observation):
        name = "big" if "hard" in observation.request.query else "small"
        if observation.responses:
            assert len(observation.responses) == 1
            return Select(observation.responses[0].call_id)
        return CallModels((Call(name),))

    mock_upstream.default = by_model({"small-id": ok("easy", delay_s=0.02), "big-id": ok("hard")})
    router = make_router(mock_upstream.base_url, ScriptedPolicy(decide))
    async with (
        serving(router) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):

        async def ask(i: int) -> None:
            word = "hard" if i % 2 else "easy"
            answer = await client.chat.completions.create(
                model="xrouter", messages=[{"role": "user", "content": f"{word} {i}"}]
            )
            assert answer.choices[0].message.content == word
            assert answer.model_extra["xrouter"]["cost_usd"] == "0.000025"
            assert len(answer.model_extra["xrouter"]["calls"]) == 1

        await asyncio.gather(*(ask(i) for i in range(40)))
    assert len(router.ledger.episodes) == 40
    assert len({entry.episode_id for entry in router.ledger.episodes}) == 40


async def test_models_and_health(client: openai.AsyncOpenAI, url: str) -> None:
    listed = [model.id async for model in await client.models.list()]
    assert listed == ["xrouter", "xrouter:quality", "xrouter:balanced", "xrouter:economy", *NAMES]
    async with aiohttp.ClientSession() as http, http.get(f"{url}/healthz") as answer:
        assert (await answer.json())["status"] == "ok"


async def test_several_choices(client: openai.AsyncOpenAI, mock_upstream: MockUpstream) -> None:
    body = completion_body("first")
    body["choices"].append(
        {"index": 1, "message": {"role": "assistant", "content": "second"}, "finish_reason": "length"}
    )
    mock_upstream.default = raw(json.dumps(body).encode())
    answer = await client.chat.completions.create(model="xrouter", messages=ASK, n=2)
    assert [choice.message.content for choice in answer.choices] == ["first", "second"]
    texts, ends = {0: "", 1: ""}, {}
    async for chunk in await client.chat.completions.create(model="xrouter", messages=ASK, n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends[choice.index] = choice.finish_reason or ends.get(choice.index)
    assert texts == {0: "first", 1: "second"}
    assert ends == {0: "stop", 1: "length"}
