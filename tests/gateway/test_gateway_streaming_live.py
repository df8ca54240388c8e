"""Answers that are handed over while the model writes them, and what happens when it breaks off."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import Any

import openai
import pytest
from serving_kit import ScriptedPolicy, make_router, serving
from upstream import MockUpstream, broken_sse, by_model, hang_after, ok, server_error

from xrouter.episodes.episode import Call, CallModels, Decision, Observation
from xrouter.router import Router

ASK = [{"role": "user", "content": "Say hello."}]


class Direct(ScriptedPolicy):
    """Asks the models in turn, each time handing over what comes."""

    def __init__(self, *models: str) -> None:
        super().__init__(lambda observation: CallModels((Call(models[len(observation.responses)]),)))

    async def act(self, observation: Observation) -> Decision:
        decision = await super().act(observation)
        return Decision(decision.action, 0.6, hand_over=observation.streaming)


async def streamed(url: str, **params: Any) -> tuple[str, list[Any], list[float]]:
    """(text, chunks, seconds at which each chunk came)."""
    chunks, times = [], []
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        started = time.monotonic()
        async for chunk in await client.chat.completions.create(
            **{"model": "xrouter", "messages": ASK, "stream": True, **params}
        ):
            chunks.append(chunk)
            times.append(time.monotonic() - started)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    return text, chunks, times


def assert_books_balance(router: Router) -> None:
    for entry in router.ledger.episodes:
        calls = [call for call in router.ledger.calls if call.episode_id == entry.episode_id]
        assert sum((call.cost_usd for call in calls), Decimal(0)) == entry.cost_usd


async def test_a_direct_route_streams_while_the_model_writes(mock_upstream: MockUpstream) -> None:
    mock_upstream.default = ok("one two three four", delay_s=0.1)
    router = make_router(mock_upstream.base_url, Direct("small"))
    async with serving(router) as url:
        text, chunks, times = await streamed(url, stream_options={"include_usage": True})
    assert text == "one two three four"
    assert times[1] < times[-1] - 0.2, "the first words came before the last were written"
    assert {chunk.model for chunk in chunks} == {"small"}
    assert chunks[-1].usage.total_tokens == 18
    assert chunks[-1].model_extra["xrouter"]["confidence"] == 0.6
    (entry,) = router.ledger.episodes
    assert (entry.policy, entry.answer_model, entry.stop_reason) == ("scripted", "small", "selected")


async def test_an_upstream_that_dies_before_its_first_byte_is_replaced_unseen(
    mock_upstream: MockUpstream,
) -> None:
    mock_upstream.default = by_model({"small-id": server_error(), "big-id": ok("all is well")})
    router = make_router(mock_upstream.base_url, Direct("small", "big"))
    async with serving(router) as url:
        text, chunks, _ = await streamed(url)
    assert text == "all is well"
    assert chunks[-1].model_extra["xrouter"]["route"] == [["small"], ["big"]]
    assert_books_balance(router)


@pytest.mark.parametrize("kind", ["no_end", "cut", "bad_json", "error"])
async def test_one_that_breaks_off_later_ends_with_an_error_event(
    mock_upstream: MockUpstream, kind: str
) -> None:
    mock_upstream.default = by_model({"small-id": broken_sse(kind), "big-id": ok("not asked")})
    router = make_router(mock_upstream.base_url, Direct("small", "big"))
    async with serving(router) as url:
        with pytest.raises(openai.APIError):
            await streamed(url)
    assert [request.body["model"] for request in mock_upstream.requests] == ["small-id"]
    (entry,) = router.ledger.episodes
    assert entry.stop_reason == "failed"
    assert entry.cost_usd > 0, "what was written before the break is counted"
    assert_books_balance(router)


async def test_a_client_that_leaves_in_the_middle_pays_for_what_came(mock_upstream: MockUpstream) -> None:
    mock_upstream.default = hang_after("Hello, I")
    router = make_router(mock_upstream.base_url, Direct("small"))
    async with serving(router) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(model="xrouter", messages=ASK, stream=True)
            await anext(aiter(stream))
            await stream.close()
        assert await mock_upstream.requests[0].wait_disconnected()
        async with asyncio.timeout(5):
            while not router.ledger.episodes:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    (call,) = router.ledger.calls
    assert call.error
    assert call.usage.completion_tokens > 0
    assert_books_balance(router)


async def test_deadline_in_the_middle_of_a_stream(mock_upstream: MockUpstream) -> None:
    mock_upstream.default = hang_after("Hello, I")
    router = make_router(mock_upstream.base_url, Direct("small"))
    async with serving(router) as url:
        with pytest.raises(openai.APIError, match="still answering"):
            await streamed(url, extra_body={"xrouter": {"deadline_s": 0.3}})
    assert_books_balance(router)


async def test_tool_calls_and_log_probabilities_stream_through(mock_upstream: MockUpstream) -> None:
    calls = [
        {"id": f"call_{i}", "type": "function", "function": {"name": f"f{i}", "arguments": "{}"}}
        for i in range(2)
    ]
    mock_upstream.default = ok(None, finish_reason="tool_calls", tool_calls=calls)
    router = make_router(mock_upstream.base_url, Direct("small"))
    async with serving(router) as url:
        _, chunks, _ = await streamed(url)
    deltas = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    assert [call.function.name for call in deltas] == ["f0", "f1"]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
