"""Cool-downs and health, each wrapper's and the pool's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from conftest import make_model

from xrouter.catalog.model import Model
from xrouter.errors import (
    CircuitOpenError,
    ModelCoolingError,
    ModelNotFoundError,
    ProviderError,
    ProviderRateLimitError,
    ProviderUnavailableError,
)
from xrouter.messages import Chunk, Completion, Request, Usage
from xrouter.providers.guard import GuardedProvider
from xrouter.providers.pool import Pool
from xrouter.providers.retry import RetryingProvider

MODEL = make_model("m")
HELLO = Request.from_text("hi")
GOOD = Completion({"role": "assistant", "content": "ok"}, Usage(1, 1))


class Scripted:
    """Raises what is on its list, then answers."""

    def __init__(self, *script: ProviderError) -> None:
        self.script = list(script)
        self.calls = 0

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        self.calls += 1
        if self.script:
            raise self.script.pop(0)
        return GOOD

    async def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        await self.complete(model, request)
        yield Chunk({"choices": [{"delta": {"content": "ok"}, "finish_reason": "stop"}]})

    async def aclose(self) -> None:
        return None


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def limited(retry_after_s: float | None = None) -> ProviderRateLimitError:
    return ProviderRateLimitError("slow down", model="m", retry_after_s=retry_after_s)


async def fails(
    provider: GuardedProvider, kind: type[ProviderError], *, streamed: bool = False
) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await (provider.open(MODEL, HELLO) if streamed else provider.complete(MODEL, HELLO))
    assert type(caught.value) is kind
    return caught.value


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_429_cools_the_model_for_as_long_as_it_asks(streamed: bool) -> None:
    clock, inner = Clock(), Scripted(limited(7.0))
    provider = GuardedProvider(inner, clock=clock)
    await fails(provider, ProviderRateLimitError, streamed=streamed)
    clock.now += 5
    error = await fails(provider, ModelCoolingError, streamed=streamed)
    assert error.status == 429
    assert error.retry_after_s == pytest.approx(2.0)
    assert inner.calls == 1
    health = provider.health(MODEL)
    assert (health.condition, health.back_in_s) == ("cooling", pytest.approx(2.0))
    clock.now += 2.1
    assert provider.health(MODEL).ok
    assert await provider.complete(MODEL, HELLO) is GOOD


async def test_other_models_are_asked_meanwhile() -> None:
    provider = GuardedProvider(Scripted(limited(7.0)), clock=Clock())
    await fails(provider, ProviderRateLimitError)
    assert await provider.complete(make_model("other"), HELLO) is GOOD


async def test_a_cool_down_is_bounded() -> None:
    clock = Clock()
    provider = GuardedProvider(Scripted(limited(86_400.0)), clock=clock, max_cooldown_s=60)
    error = await fails(provider, ProviderRateLimitError)
    assert error.retry_after_s == 86_400.0
    assert provider.health(MODEL).back_in_s == pytest.approx(60)


async def test_without_retry_after_it_doubles_until_a_call_succeeds() -> None:
    clock = Clock()
    provider = GuardedProvider(
        Scripted(*(limited() for _ in range(4))), clock=clock, cooldown_s=1, max_cooldown_s=5
    )
    waits = []
    for _ in range(4):
        await fails(provider, ProviderRateLimitError)
        waits.append(provider.health(MODEL).back_in_s)
        clock.now += 10
    assert waits == pytest.approx([1, 2, 4, 5])
    assert await provider.complete(MODEL, HELLO) is GOOD
    provider.inner.script.append(limited())  # type: ignore[attr-defined]
    await fails(provider, ProviderRateLimitError)
    assert provider.health(MODEL).back_in_s == pytest.approx(1)


async def test_a_cool_down_can_be_turned_off() -> None:
    provider = GuardedProvider(Scripted(limited()), clock=Clock(), cooldown_s=0)
    await fails(provider, ProviderRateLimitError)
    assert await provider.complete(MODEL, HELLO) is GOOD


async def test_a_shorter_wait_does_not_end_a_longer_one() -> None:
    clock = Clock()
    provider = GuardedProvider(Scripted(), clock=clock)
    line = provider._line(MODEL)
    provider._cool(line, limited(30.0))
    provider._cool(line, limited(1.0))
    assert provider.health(MODEL).back_in_s == pytest.approx(30)


async def test_the_call_that_was_told_to_wait_waits_and_is_answered() -> None:
    clock, inner = Clock(), Scripted(limited(3.0), limited())
    provider = RetryingProvider(
        GuardedProvider(inner, clock=clock), sleep=clock.sleep, uniform=lambda low, high: low
    )
    assert await provider.complete(MODEL, HELLO) is GOOD
    assert clock.now == pytest.approx(100 + 3 + 2)
    assert inner.calls == 3


async def test_a_fresh_call_does_not_wait_for_others_cool_down() -> None:
    clock, inner = Clock(), Scripted(limited(3.0))
    guard = GuardedProvider(inner, clock=clock)
    await fails(guard, ProviderRateLimitError)
    with pytest.raises(ModelCoolingError):
        await RetryingProvider(guard, sleep=clock.sleep).complete(MODEL, HELLO)
    assert clock.now == 100


async def test_a_retry_waits_on_when_another_call_prolonged_the_cool_down() -> None:
    clock, inner = Clock(), Scripted(limited(1.0))
    guard = GuardedProvider(inner, clock=clock)

    async def sleep(seconds: float) -> None:
        clock.now += seconds
        if seconds < 1.5:  # meanwhile somebody else was told to wait longer
            guard._cool(guard._line(MODEL), limited(4.0))

    provider = RetryingProvider(guard, sleep=sleep, uniform=lambda low, high: low)
    assert await provider.complete(MODEL, HELLO) is GOOD
    assert inner.calls == 2


async def test_the_pool_knows_who_is_well() -> None:
    clock = Clock()
    down = GuardedProvider(
        Scripted(ProviderUnavailableError("x")), clock=clock, breaker_failures=1, breaker_reset_s=30
    )
    hot = GuardedProvider(Scripted(limited(5.0)), clock=clock)
    models = [make_model(name, provider=name) for name in ("down", "hot", "fine", "plain")]
    providers = {
        "down": RetryingProvider(down, max_retries=0),
        "hot": RetryingProvider(hot, max_retries=0),
        "fine": RetryingProvider(GuardedProvider(Scripted())),
        "plain": Scripted(),
    }
    pool = Pool(tuple(models), providers)
    assert pool.healthy_names() == ("down", "hot", "fine", "plain")
    for name in ("down", "hot"):
        with pytest.raises(ProviderError):
            await pool.provider_of(pool[name]).complete(pool[name], HELLO)
    assert pool.healthy_names() == ("fine", "plain")
    assert pool.health("down").condition == "open"
    assert pool.health("down").back_in_s == pytest.approx(30)
    assert pool.health("hot").condition == "cooling"
    with pytest.raises(CircuitOpenError):
        await down.complete(models[0], HELLO)
    clock.now += 31  # a probe may go through
    assert pool.healthy_names() == ("down", "hot", "fine", "plain")


def test_names_are_looked_up() -> None:
    pool = Pool((make_model("a", provider="p"),), {"p": Scripted()})
    assert "a" in pool
    assert "b" not in pool
    with pytest.raises(ModelNotFoundError, match="'b'"):
        pool["b"]
