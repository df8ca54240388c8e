from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from conftest import make_model

from xrouter.catalog.model import Model
from xrouter.errors import ProviderError, ProviderRequestError, ProviderUnavailableError
from xrouter.messages import Chunk, Completion, Request, Usage
from xrouter.providers.hedged import ENOUGH_LATENCIES, HedgedProvider, percentile
from xrouter.providers.usage import estimate_prompt_tokens

SLOW = 60.0
HELLO = Request.from_text("hello there")


class Timed:
    """Plays one entry a call: seconds to answer in, or an error."""

    def __init__(self, name: str, *script: float | ProviderError) -> None:
        self.name = name
        self.script = list(script)
        self.started = self.running = 0
        self.affinities: list[str | None] = []

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        self.started += 1
        self.running += 1
        self.affinities.append(request.affinity)
        entry = self.script.pop(0) if self.script else 0.0
        try:
            if isinstance(entry, ProviderError):
                raise entry
            await asyncio.sleep(entry)
            return Completion({"role": "assistant", "content": self.name}, Usage(7, 3), endpoint=self.name)
        finally:
            self.running -= 1

    async def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        completion = await self.complete(model, request)
        yield Chunk({"choices": [{"delta": {"content": completion.text}, "finish_reason": "stop"}]})

    async def aclose(self) -> None:
        return None


def booked() -> Request:
    return replace(HELLO, side_calls=[])


FAST = make_model("m", hedge_after_s=0.01)


async def ask(provider: HedgedProvider, model: Model, request: Request, streamed: bool) -> str:
    if not streamed:
        return (await provider.complete(model, request)).text
    opened = await provider.open(model, request)
    return "".join([block.pieces[0][0]["choices"][0]["delta"]["content"] async for block in opened])


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_second_call_wins_and_the_first_is_ended_and_booked(streamed: bool) -> None:
    first, second = Timed("first", SLOW), Timed("second")
    request = booked()
    assert await ask(HedgedProvider(first, second), FAST, request, streamed) == "second"
    assert first.running == 0
    (side_call,) = request.side_calls or ()
    assert side_call.usage == Usage(estimate_prompt_tokens(HELLO), estimated=True)
    assert side_call.latency_s >= 0.01
    assert "hedged" in side_call.error


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_first_call_may_still_win(streamed: bool) -> None:
    first, second = Timed("first", 0.05), Timed("second", SLOW)
    request = booked()
    assert await ask(HedgedProvider(first, second), FAST, request, streamed) == "first"
    assert (second.started, second.running) == (1, 0)
    assert len(request.side_calls or ()) == 1


async def test_a_quick_answer_is_not_hedged() -> None:
    first, second = Timed("first"), Timed("second")
    request = booked()
    await HedgedProvider(first, second).complete(make_model("m", hedge_after_s=1.0), request)
    assert second.started == 0
    assert request.side_calls == []


async def test_models_without_hedging_are_passed_on() -> None:
    first = Timed("first", 0.03)
    await HedgedProvider(first).complete(make_model("m"), HELLO)
    assert first.started == 1
    assert first.affinities == [None]


async def test_a_failure_before_the_second_call_goes_up() -> None:
    first, second = Timed("first", ProviderRequestError("no")), Timed("second")
    with pytest.raises(ProviderRequestError):
        await HedgedProvider(first, second).complete(FAST, HELLO)
    assert second.started == 0


async def test_a_failure_afterwards_leaves_it_to_the_other() -> None:
    first, second = Timed("first", 0.05), Timed("second", ProviderUnavailableError("x", usage=Usage(1, 0)))
    request = booked()
    assert (await HedgedProvider(first, second).complete(FAST, request)).text == "first"
    assert [call.usage for call in request.side_calls or ()] == [Usage(1, 0)]


async def test_when_both_fail_the_first_ones_error_goes_up() -> None:
    class FailsLate(Timed):
        async def complete(self, *args: object, **kwargs: object) -> Completion:
            await asyncio.sleep(0.03)
            raise ProviderUnavailableError(self.name)

    request = booked()
    with pytest.raises(ProviderUnavailableError, match="first"):
        await HedgedProvider(FailsLate("first"), FailsLate("second")).complete(FAST, request)
    assert request.side_calls == []


async def test_cancelling_ends_both_and_books_the_second() -> None:
    first, second = Timed("first", SLOW), Timed("second", SLOW)
    request = booked()
    task = asyncio.ensure_future(HedgedProvider(first, second).complete(FAST, request))
    await asyncio.sleep(0.05)
    assert (first.running, second.running) == (1, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (first.running, second.running) == (0, 0)
    assert len(request.side_calls or ()) == 1


async def test_both_calls_share_an_order_of_endpoints() -> None:
    first, second = Timed("first", SLOW), Timed("second")
    await HedgedProvider(first, second).complete(FAST, HELLO)
    assert first.affinities == second.affinities != [None]
    await HedgedProvider(first, second).complete(FAST, replace(HELLO, affinity="mine"))
    assert first.affinities[-1] == "mine"


async def test_the_delay_is_learned_from_what_calls_took() -> None:
    model = make_model("m", hedge_percentile=95.0)
    first, second = Timed("first", *[0.001] * ENOUGH_LATENCIES, SLOW), Timed("second")
    provider = HedgedProvider(first, second)
    assert provider.delay_s(model, "complete") is None
    for _ in range(ENOUGH_LATENCIES):
        await provider.complete(model, HELLO)
    assert second.started == 0
    delay_s = provider.delay_s(model, "complete")
    assert delay_s is not None
    assert 0.001 <= delay_s < 1
    assert provider.delay_s(model, "open") is None
    assert (await provider.complete(model, HELLO)).text == "second"
    assert max(provider._latencies["m", "complete"]) >= delay_s  # a hedged call stays in the tail


def test_percentiles() -> None:
    values = [float(n) for n in range(1, 101)]
    assert percentile(values, 95) == 96
    assert percentile(values, 50) == 51
    assert percentile(values[:19], 95) is None
    assert percentile([1.0] * 20, 99) == 1.0
