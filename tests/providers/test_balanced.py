from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from random import Random

import pytest
from conftest import make_model
from upstream import MockUpstream, hang, ok, server_error

from xrouter.catalog.model import Model, ModelEndpoint
from xrouter.catalog.price import Price, Rates
from xrouter.errors import (
    CircuitOpenError,
    ConfigurationError,
    ProviderAuthError,
    ProviderError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from xrouter.messages import Chunk, Completion, Request, SideCall, Usage
from xrouter.providers.balanced import BalancedProvider
from xrouter.providers.guard import GuardedProvider
from xrouter.providers.openai import OpenAIProvider
from xrouter.providers.retry import RetryingProvider
from xrouter.providers.weights import hashed, ranked

HELLO = Request.from_text("hi")


def price(dollars: int) -> Price:
    return Price(Rates(Decimal(dollars), Decimal(dollars)), date(2026, 1, 1), "tests")


def endpoint(name: str, weight: float = 1.0) -> ModelEndpoint:
    return ModelEndpoint(name, name, f"{name}-id", price(len(name)), weight)


def at(*endpoints: ModelEndpoint) -> Model:
    return make_model("m", provider=endpoints[0].provider, endpoints=endpoints)


A, B, C = endpoint("a", 3.0), endpoint("bb", 1.0), endpoint("ccc", 1.0)


class Recorder:
    """Says its name; fails with the errors on its list first."""

    def __init__(self, name: str, *errors: ProviderError) -> None:
        self.name = name
        self.errors = list(errors)
        self.asked: list[Model] = []

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        self.asked.append(model)
        if self.errors:
            raise self.errors.pop(0)
        return Completion({"role": "assistant", "content": self.name}, Usage(1, 1))

    async def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        yield Chunk({"choices": [{"delta": {"content": (await self.complete(model, request)).text}}]})
        raise ProviderUnavailableError("dropped")

    async def aclose(self) -> None:
        return None


# Weights


def test_shares_follow_the_weights() -> None:
    draw = Random(1).random
    first = Counter(ranked([A, B, C], None, draw)[0].name for _ in range(20_000))
    assert first["a"] == pytest.approx(12_000, rel=0.03)
    assert first["bb"] == pytest.approx(4_000, rel=0.06)


def test_keys_spread_by_weight_and_stay() -> None:
    keys = [f"session-{i}" for i in range(5_000)]
    first = {key: ranked([A, B, C], key, Random().random)[0].name for key in keys}
    shares = Counter(first.values())
    assert shares["a"] == pytest.approx(3_000, rel=0.06)
    assert all(ranked([C, B, A], key, Random().random)[0].name == name for key, name in first.items())
    without = {key: ranked([A, C], key, Random().random)[0].name for key in keys}
    assert all(without[key] == name for key, name in first.items() if name != "bb")


def test_the_hash_is_the_same_in_every_process() -> None:
    assert hashed("session", "a") == pytest.approx(0.1052757, abs=1e-6)
    assert 0 <= hashed("\udcff", "a") < 1


# Choice and failover


def balanced(*providers: Recorder, **options: object) -> BalancedProvider:
    return BalancedProvider({p.name: p for p in providers}, draw=lambda: 0.5, **options)  # type: ignore[arg-type]


async def test_the_endpoint_gets_its_own_id_and_is_named() -> None:
    a, bb = Recorder("a"), Recorder("bb")
    completion = await balanced(a, bb).complete(at(A, B), HELLO)
    assert (completion.text, completion.endpoint) == ("a", "a")
    (asked,) = a.asked
    assert (asked.name, asked.provider, asked.id, asked.price) == ("m", "a", "a-id", price(1))
    assert bb.asked == []


@pytest.mark.parametrize(
    "error",
    [
        ProviderUnavailableError("x"),
        ProviderTimeoutError("x"),
        ProviderRateLimitError("x"),
        ProviderAuthError("x"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_the_next_endpoint_is_asked_at_once(error: ProviderError, streamed: bool) -> None:
    provider = balanced(Recorder("a", error), Recorder("bb"))
    if streamed:
        opened = await provider.open(at(A, B), HELLO)
        assert opened.endpoint == "bb"
        await opened.aclose()
    else:
        assert (await provider.complete(at(A, B), HELLO)).endpoint == "bb"
    assert error.endpoint == "a"


async def test_a_refused_request_is_not_tried_elsewhere() -> None:
    a, bb = Recorder("a", ProviderRequestError("no")), Recorder("bb")
    with pytest.raises(ProviderRequestError):
        await balanced(a, bb).complete(at(A, B), HELLO)
    assert bb.asked == []


async def test_after_the_first_block_nobody_else_is_asked() -> None:
    a, bb = Recorder("a"), Recorder("bb")
    opened = await balanced(a, bb).open(at(A, B), HELLO)
    with pytest.raises(ProviderUnavailableError, match="dropped"):
        _ = [block async for block in opened]
    assert bb.asked == []


async def test_the_last_error_goes_up() -> None:
    errors = [ProviderUnavailableError("first"), ProviderUnavailableError("last")]
    with pytest.raises(ProviderUnavailableError, match="last"):
        await balanced(Recorder("a", errors[0]), Recorder("bb", errors[1])).complete(at(A, B), HELLO)


async def test_what_a_failed_endpoint_charged_is_written_down() -> None:
    request = replace(HELLO, side_calls=[])
    error = ProviderUnavailableError("x", usage=Usage(5, 6))
    await balanced(Recorder("a", error), Recorder("bb")).complete(at(A, B), request)
    assert request.side_calls == [SideCall(Usage(5, 6), 0.0, "x", "a")]


async def test_endpoints_that_are_not_well_are_left_out() -> None:
    down = GuardedProvider(Recorder("a", ProviderUnavailableError("x")), breaker_failures=1)
    hot = GuardedProvider(Recorder("bb", ProviderRateLimitError("x", retry_after_s=5)))
    provider = BalancedProvider({"a": down, "bb": hot, "ccc": Recorder("ccc")}, draw=lambda: 0.5)
    model = at(A, B, C)
    assert (await provider.complete(model, HELLO)).endpoint == "ccc"
    assert (await provider.complete(model, HELLO)).endpoint == "ccc"
    assert len(down.inner.asked) == len(hot.inner.asked) == 1  # type: ignore[attr-defined]
    assert provider.health(model).ok
    two = at(A, B)
    assert provider.health(two).condition == "cooling"
    with pytest.raises(ProviderRateLimitError) as caught:
        await provider.complete(two, HELLO)
    assert caught.value.retry_after_s == pytest.approx(5, abs=0.5)


async def test_a_session_stays_where_its_cache_is_warm() -> None:
    providers = [Recorder(name) for name in ("a", "bb", "ccc")]
    provider = BalancedProvider({p.name: p for p in providers})
    request = replace(HELLO, affinity="session-1")
    served = {(await provider.complete(at(A, B, C), request)).endpoint for _ in range(20)}
    assert len(served) == 1


async def test_the_alternate_begins_with_the_second() -> None:
    provider = balanced(Recorder("a"), Recorder("bb"), skip=1)
    assert (await provider.complete(at(A, B), HELLO)).endpoint == "bb"


async def test_a_model_without_endpoints_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="endpoints"):
        await balanced(Recorder("a")).complete(make_model("m"), HELLO)


async def test_two_deployments_at_one_provider_have_circuits_of_their_own() -> None:
    one = ModelEndpoint("one", "a", "dep-1", price(1), 1e9)
    two = ModelEndpoint("two", "a", "dep-2", price(1))
    guard = GuardedProvider(Recorder("a", ProviderUnavailableError("x")), breaker_failures=1)
    provider = BalancedProvider({"a": guard})
    model = at(one, two)
    for _ in range(2):
        assert (await provider.complete(model, HELLO)).endpoint == "two"
    with pytest.raises(CircuitOpenError):
        await guard.complete(model.at(one), HELLO)


async def test_over_real_connections_with_retries(mock_upstream: MockUpstream) -> None:
    with MockUpstream(server_error()) as broken:
        guarded = {
            "a": GuardedProvider(OpenAIProvider("a", broken.base_url)),
            "bb": GuardedProvider(OpenAIProvider("bb", mock_upstream.base_url)),
        }
        mock_upstream.script(server_error(), ok("at last"))
        provider = RetryingProvider(BalancedProvider(guarded, draw=lambda: 0.5), base_delay_s=0.01)
        completion = await provider.complete(at(A, B), HELLO)
        assert (completion.text, completion.endpoint) == ("at last", "bb")
        assert completion.served_model == "bb-id"
        mock_upstream.default = hang()
        task = asyncio.ensure_future(provider.complete(at(A, B), HELLO))
        await mock_upstream.wait_requests(3)
        task.cancel()
        await asyncio.wait([task])
        assert await mock_upstream.requests[-1].wait_disconnected(0.5)
        await provider.aclose()
