"""Models that stand in for one that fails, models left alone for a while, and what hedging costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import openai
import pytest
from conftest import make_model
from serving_kit import ask_then_select, make_router, serving
from upstream import MockUpstream, broken_sse, by_model, error, ok, server_error

from xrouter.catalog.model import Model
from xrouter.ledger.memory import MemoryLedger
from xrouter.messages import Chunk, Completion, Request, SideCall, Usage
from xrouter.providers.health import Health
from xrouter.providers.pool import Pool
from xrouter.router import Router
from xrouter.settings import Settings

ASK = [{"role": "user", "content": "Hi"}]
FALLBACKS = Settings(fallbacks={"small": ("big",)})


async def ask(url: str, stream: bool = False, model: str = "small") -> tuple[str, str, Any]:
    """(text, model, what the last piece says of the routing)"""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        if not stream:
            answer = await client.chat.completions.create(model=model, messages=ASK)
            return answer.choices[0].message.content or "", answer.model, answer.model_extra["xrouter"]
        chunks = [
            chunk
            async for chunk in await client.chat.completions.create(model=model, messages=ASK, stream=True)
        ]
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        return text, chunks[-1].model, chunks[-1].model_extra["xrouter"]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_next_of_a_chain_answers(mock_upstream: MockUpstream, stream: bool) -> None:
    mock_upstream.default = by_model({"small-id": server_error(), "big-id": ok("here I am")})
    router = make_router(mock_upstream.base_url, settings=FALLBACKS)
    async with serving(router) as url:
        text, model, routing = await ask(url, stream)
    assert (text, model) == ("here I am", "big")
    assert routing["route"] == [["small"], ["big"]]
    assert [call.error is None for call in router.ledger.calls] == [False, True]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_refused_as_invalid_goes_no_further(
    mock_upstream: MockUpstream, stream: bool
) -> None:
    mock_upstream.default = by_model({"small-id": error(400, "no such parameter"), "big-id": ok("no")})
    router = make_router(mock_upstream.base_url, settings=FALLBACKS)
    async with serving(router) as url:
        with pytest.raises(openai.BadRequestError, match="no such parameter"):
            await ask(url, stream)
    assert len(mock_upstream.requests) == 1
    (entry,) = router.ledger.episodes
    assert entry.error


async def test_a_stream_that_broke_has_no_stand_in(mock_upstream: MockUpstream) -> None:
    mock_upstream.default = by_model({"small-id": broken_sse("cut"), "big-id": ok("no")})
    async with serving(make_router(mock_upstream.base_url, settings=FALLBACKS)) as url:
        with pytest.raises(openai.APIError):
            await ask(url, stream=True)
    assert len(mock_upstream.requests) == 1


class Scripted:
    """A provider that says how its models are, and what else it called."""

    def __init__(self, health: dict[str, Health], side_calls: int = 0) -> None:
        self._health = health
        self._side_calls = side_calls
        self.asked: list[str] = []

    def health(self, model: Model) -> Health:
        return self._health.get(model.name, Health())

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        self.asked.append(model.name)
        self._note(request)
        return Completion({"role": "assistant", "content": "42"}, Usage(10, 10))

    async def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        self.asked.append(model.name)
        self._note(request)
        delta = {"role": "assistant", "content": "42"}
        yield Chunk({"id": "x", "model": "m", "choices": [{"index": 0, "delta": delta}]})
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        yield Chunk({"id": "x", "model": "m", "choices": [end]}, Usage(10, 10))

    def _note(self, request: Request) -> None:
        for _ in range(self._side_calls):
            assert request.side_calls is not None
            request.side_calls.append(SideCall(Usage(7, 0, estimated=True), 0.1, "ended: another was faster"))

    async def aclose(self) -> None: ...


def router_of(provider: Scripted, *asked: str) -> Router:
    pool = Pool((make_model("small"), make_model("big")), {"mock": provider})
    return Router(ask_then_select(*asked), pool=pool, ledger=MemoryLedger(), settings=Settings())


async def test_a_model_that_would_fail_is_left_out_while_others_remain() -> None:
    provider = Scripted({"small": Health("open", 12.0)})
    router = router_of(provider, "small", "big")
    async with serving(router) as url:
        _, model, _ = await ask(url, model="xrouter")
    assert model == "big"
    assert provider.asked == ["big"]
    assert router.policy.seen[0].allowed == {"big"}
    provider = Scripted({"small": Health("open", 12.0), "big": Health("cooling", 3.0)})
    async with serving(router_of(provider, "small")) as url:
        await ask(url, model="xrouter")
    assert provider.asked == ["small"], "it may have come back, and nobody else is left"


@pytest.mark.parametrize("stream", [False, True])
async def test_what_hedging_called_beside_the_answer_is_booked(stream: bool) -> None:
    router = router_of(Scripted({}, side_calls=2), "small")
    async with serving(router) as url:
        _, _, routing = await ask(url, stream)
    model = router.pool["small"]
    side = model.price.cost(Usage(7, 0))
    (entry,) = router.ledger.episodes
    assert entry.cost_usd == model.price.cost(Usage(10, 10)) + 2 * side
    assert [call.cost_usd for call in router.ledger.calls[1:]] == [side, side]
    assert Decimal(routing["cost_usd"]) == entry.cost_usd
    assert [call["error"] is None for call in routing["calls"]] == [True, False, False]
    assert replace(entry, cost_usd=Decimal(0)).calls == 1, "one call was asked for"
