from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from conftest import make_model

from xrouter.catalog.model import Model
from xrouter.errors import (
    CircuitOpenError,
    ProviderAuthError,
    ProviderError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderResponseError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from xrouter.messages import Chunk, Completion, Request, Usage
from xrouter.providers.breaker import CircuitBreaker
from xrouter.providers.guard import GuardedProvider
from xrouter.providers.provider import Provider
from xrouter.providers.retry import RetryingProvider

MODEL = make_model("m")
HELLO = Request.from_text("hi")
GOOD = Completion({"role": "assistant", "content": "ok"}, Usage(1, 1))
DOWN = ProviderUnavailableError("down", model="m")
HANG = "hang"


class Scripted:
    """Plays one entry a call: an error to raise, HANG, or "ok"; then "ok" for ever.

    In streams an entry may be a list: strings are chunks, an error is raised in its place.
    """

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.calls: list[str] = []
        self.running = self.peak = 0
        self.closed = False
        self.gate: asyncio.Event | None = None

    def _next(self, model: Model) -> Any:
        self.calls.append(model.name)
        return self.script.pop(0) if self.script else "ok"

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        entry = self._next(model)
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            if self.gate is not None:
                await self.gate.wait()
            if isinstance(entry, ProviderError):
                raise entry
            if entry is HANG:
                await asyncio.sleep(60)
            return GOOD
        finally:
            self.running -= 1

    async def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        entry = self._next(model)
        self.running += 1
        try:
            for part in entry if isinstance(entry, list) else [entry]:
                if isinstance(part, ProviderError):
                    raise part
                if part is HANG:
                    await asyncio.sleep(60)
                yield Chunk({"text": part})
        finally:
            self.running -= 1

    async def aclose(self) -> None:
        self.closed = True


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def time() -> Time:
    return Time()


Wrap = Callable[..., RetryingProvider]
GUARDING = frozenset(inspect.signature(GuardedProvider).parameters) - {"inner"}


def breaker_of(provider: RetryingProvider) -> CircuitBreaker:
    assert isinstance(provider.inner, GuardedProvider)
    return provider.inner.breaker_of(MODEL)


@pytest.fixture
def wrap(time: Time) -> Wrap:
    def wrapped(inner: Provider, **options: Any) -> RetryingProvider:
        settings = {"clock": time.clock, "sleep": time.sleep, "uniform": lambda low, high: high, **options}
        guarding = {name: settings.pop(name) for name in GUARDING & settings.keys()}
        return RetryingProvider(GuardedProvider(inner, **guarding), **settings)

    return wrapped


async def texts(provider: RetryingProvider, **kwargs: Any) -> list[str]:
    return [chunk.data["text"] async for chunk in provider.stream(MODEL, HELLO, **kwargs)]


# Retries


async def test_retries_back_off_exponentially(wrap: Wrap, time: Time) -> None:
    inner = Scripted(*[DOWN] * 6)
    provider = wrap(inner, max_retries=6, base_delay_s=1.0, max_delay_s=8.0, breaker_failures=99)
    assert await provider.complete(MODEL, HELLO) is GOOD
    assert time.slept == [1, 2, 4, 8, 8, 8]


async def test_the_jitter_is_full(wrap: Wrap, time: Time) -> None:
    bounds: list[tuple[float, float]] = []

    def low_end(low: float, high: float) -> float:
        bounds.append((low, high))
        return low

    await wrap(Scripted(DOWN, DOWN), uniform=low_end).complete(MODEL, HELLO)
    assert bounds == [(0.0, 0.25), (0.0, 0.5)]
    assert time.slept == [0.0, 0.0]


async def test_gives_up_after_max_retries_with_the_last_error(wrap: Wrap) -> None:
    last = ProviderRateLimitError("last", model="m")
    inner = Scripted(DOWN, DOWN, last, "ok")
    with pytest.raises(ProviderRateLimitError) as caught:
        await wrap(inner, max_retries=2).complete(MODEL, HELLO)
    assert caught.value is last
    assert len(inner.calls) == 3


@pytest.mark.parametrize("kind", [ProviderAuthError, ProviderRequestError, ProviderResponseError])
async def test_what_cannot_get_better_is_not_retried(wrap: Wrap, kind: type[ProviderError]) -> None:
    inner = Scripted(kind("no", model="m"))
    with pytest.raises(kind):
        await wrap(inner).complete(MODEL, HELLO)
    assert len(inner.calls) == 1


async def test_no_retries_at_all(wrap: Wrap, time: Time) -> None:
    with pytest.raises(ProviderUnavailableError):
        await wrap(Scripted(DOWN), max_retries=0).complete(MODEL, HELLO)
    assert time.slept == []


async def test_retry_after_is_waited_out(wrap: Wrap, time: Time) -> None:
    inner = Scripted(ProviderRateLimitError("slow", model="m", retry_after_s=3.0))
    assert await wrap(inner, base_delay_s=0.25).complete(MODEL, HELLO) is GOOD
    assert time.slept == [3.25]


async def test_a_retry_after_beyond_max_delay_goes_up_at_once(wrap: Wrap, time: Time) -> None:
    inner = Scripted(ProviderRateLimitError("slow", model="m", retry_after_s=8.1))
    with pytest.raises(ProviderRateLimitError) as caught:
        await wrap(inner, max_delay_s=8.0).complete(MODEL, HELLO)
    assert caught.value.retry_after_s == 8.1
    assert time.slept == []


# Time-outs


async def test_each_attempt_is_bounded(wrap: Wrap) -> None:
    inner = Scripted(HANG)
    assert await wrap(inner, call_timeout_s=0.05).complete(MODEL, HELLO) is GOOD
    assert len(inner.calls) == 2
    assert inner.running == 0


async def test_the_callers_time_out_bounds_all_attempts(wrap: Wrap) -> None:
    provider = wrap(Scripted(DOWN, HANG), sleep=asyncio.sleep, base_delay_s=0.01)
    with pytest.raises(ProviderTimeoutError, match=r"within 0\.1 s"):
        await provider.complete(MODEL, HELLO, timeout_s=0.1)


async def test_a_stalled_stream_is_ended(wrap: Wrap) -> None:
    inner = Scripted(["a", HANG])
    with pytest.raises(ProviderTimeoutError):
        await texts(wrap(inner), timeout_s=0.05)
    assert len(inner.calls) == 1
    assert inner.running == 0


# Streams


async def test_a_stream_is_retried_before_its_first_chunk(wrap: Wrap, time: Time) -> None:
    inner = Scripted([DOWN], [HANG], ["a", "b"])
    assert await texts(wrap(inner, call_timeout_s=0.05)) == ["a", "b"]
    assert len(time.slept) == 2


async def test_a_stream_is_not_retried_after_its_first_chunk(wrap: Wrap) -> None:
    inner = Scripted(["a", DOWN], ["a", "b"])
    got: list[Any] = []

    async def consume() -> None:
        async for chunk in wrap(inner).stream(MODEL, HELLO):
            got.append(chunk.data["text"])

    with pytest.raises(ProviderUnavailableError):
        await consume()
    assert got == ["a"]
    assert len(inner.calls) == 1


async def test_leaving_a_stream_closes_it_and_frees_its_slot(wrap: Wrap) -> None:
    inner = Scripted(["a", HANG])
    provider = wrap(inner, max_concurrency_per_model=1)
    async with aclosing(provider.stream(MODEL, HELLO)) as chunks:
        async for _ in chunks:
            break
    assert inner.running == 0
    assert await asyncio.wait_for(provider.complete(MODEL, HELLO), 1) is GOOD


# Circuit breaker


async def test_the_circuit_opens_and_calls_fail_at_once(wrap: Wrap, time: Time) -> None:
    inner = Scripted(*[DOWN] * 5)
    provider = wrap(inner, max_retries=0, breaker_failures=5, breaker_reset_s=30)
    for _ in range(5):
        with pytest.raises(ProviderUnavailableError):
            await provider.complete(MODEL, HELLO)
    for call in (provider.complete(MODEL, HELLO), texts(provider)):
        with pytest.raises(CircuitOpenError, match="5 times in a row") as caught:
            await call
        assert caught.value.retry_after_s == pytest.approx(30)
    assert len(inner.calls) == 5
    time.now += 30
    assert await provider.complete(MODEL, HELLO) is GOOD
    assert breaker_of(provider).state == "closed"


async def test_no_wait_and_no_retry_once_the_circuit_is_open(wrap: Wrap, time: Time) -> None:
    inner = Scripted(*[DOWN] * 9)
    with pytest.raises(ProviderUnavailableError) as caught:
        await wrap(inner, max_retries=8, breaker_failures=2).complete(MODEL, HELLO)
    assert caught.value is DOWN
    assert len(inner.calls) == 2
    assert len(time.slept) == 1


async def test_models_have_circuits_of_their_own(wrap: Wrap) -> None:
    provider = wrap(Scripted(DOWN), max_retries=0, breaker_failures=1)
    with pytest.raises(ProviderUnavailableError):
        await provider.complete(MODEL, HELLO)
    assert await provider.complete(make_model("other"), HELLO) is GOOD


@pytest.mark.parametrize("kind", [ProviderAuthError, ProviderRequestError, ProviderRateLimitError])
async def test_refusals_do_not_open_the_circuit(wrap: Wrap, kind: type[ProviderError]) -> None:
    provider = wrap(Scripted(*[kind("no", model="m")] * 3), max_retries=0, breaker_failures=2)
    for _ in range(3):
        with pytest.raises(kind):
            await provider.complete(MODEL, HELLO)
    assert breaker_of(provider).state == "closed"


async def test_a_stream_that_breaks_midway_counts(wrap: Wrap) -> None:
    provider = wrap(Scripted(["a", ProviderResponseError("cut")]), breaker_failures=1)
    with pytest.raises(ProviderResponseError):
        await texts(provider)
    assert breaker_of(provider).state == "open"


async def test_a_cancelled_probe_gives_its_place_back(wrap: Wrap, time: Time) -> None:
    provider = wrap(Scripted(DOWN, HANG), max_retries=0, breaker_failures=1)
    with pytest.raises(ProviderUnavailableError):
        await provider.complete(MODEL, HELLO)
    time.now += 30
    probe = asyncio.ensure_future(provider.complete(MODEL, HELLO))
    await asyncio.sleep(0.01)
    with pytest.raises(CircuitOpenError):
        await provider.complete(MODEL, HELLO)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert await provider.complete(MODEL, HELLO) is GOOD


# Concurrency


async def test_calls_of_one_model_are_limited_and_others_are_not(wrap: Wrap) -> None:
    inner = Scripted()
    inner.gate = asyncio.Event()
    provider = wrap(inner, max_concurrency_per_model=3)
    calls = [asyncio.ensure_future(provider.complete(MODEL, HELLO)) for _ in range(10)]
    other = asyncio.ensure_future(provider.complete(make_model("other"), HELLO))
    await asyncio.sleep(0.01)
    assert inner.running == 4
    inner.gate.set()
    assert await asyncio.gather(*calls, other) == [GOOD] * 11
    assert inner.peak == 4


async def test_cancelling_a_queued_call_leaves_the_queue_in_order(wrap: Wrap) -> None:
    inner = Scripted()
    inner.gate = asyncio.Event()
    provider = wrap(inner, max_concurrency_per_model=1)
    first, queued, third = (asyncio.ensure_future(provider.complete(MODEL, HELLO)) for _ in range(3))
    await asyncio.sleep(0.01)
    queued.cancel()
    inner.gate.set()
    assert await asyncio.wait_for(asyncio.gather(first, third), 1) == [GOOD, GOOD]
    assert len(inner.calls) == 2


async def test_a_slot_is_not_held_while_backing_off(wrap: Wrap) -> None:
    released = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await released.wait()

    inner = Scripted(DOWN)
    provider = wrap(inner, max_concurrency_per_model=1, sleep=sleep)
    waiting = asyncio.ensure_future(provider.complete(MODEL, HELLO))
    await asyncio.sleep(0.01)
    assert await asyncio.wait_for(provider.complete(MODEL, HELLO), 1) is GOOD
    released.set()
    assert await waiting is GOOD


async def test_waiting_for_a_slot_is_bounded(wrap: Wrap) -> None:
    inner = Scripted(["a", HANG])
    provider = wrap(inner, max_concurrency_per_model=1, max_retries=0)
    async with aclosing(provider.stream(MODEL, HELLO)) as chunks:
        await anext(chunks)
        with pytest.raises(ProviderTimeoutError, match="max_concurrency_per_model is 1"):
            await texts(provider, timeout_s=0.05)
    assert breaker_of(provider).state == "closed"


def test_one_wrapper_serves_one_loop_after_another(wrap: Wrap) -> None:
    provider = wrap(Scripted(), max_concurrency_per_model=1)

    async def contended() -> None:
        await asyncio.gather(*(provider.complete(MODEL, HELLO) for _ in range(3)))

    asyncio.run(contended())
    asyncio.run(contended())


async def test_closing_closes_the_inner_provider(wrap: Wrap) -> None:
    inner = Scripted()
    await wrap(inner).aclose()
    assert inner.closed
