"""Calls for embeddings go through the same transports, guards, retries and choice of endpoint as those for answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial

import pytest
from conftest import make_model
from upstream import MockUpstream, embedded, error, hang, ok, rate_limited, server_error

from xrouter.catalog.model import Model, ModelEndpoint
from xrouter.errors import (
    CircuitOpenError,
    ModelCoolingError,
    ProviderAuthError,
    ProviderError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderResponseError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from xrouter.messages import Request, Usage
from xrouter.providers.balanced import BalancedProvider
from xrouter.providers.embedder import EmbeddingRequest, Embeddings
from xrouter.providers.guard import GuardedProvider
from xrouter.providers.openai import OpenAIProvider
from xrouter.providers.retry import RetryingProvider
from xrouter.providers.simulated import SimulatedProvider

MODEL = make_model("vectors", kind="embedding")
WORDS = EmbeddingRequest(["a", "b"])
VECTORS = Embeddings({"data": []}, Usage(1))

Make = Callable[..., OpenAIProvider]


@pytest.fixture(params=["aiohttp", "native"])
def make(request: pytest.FixtureRequest) -> Make:
    """An OpenAIProvider over each of the transports."""
    return partial(OpenAIProvider, transport=request.param)


@pytest.fixture
async def provider(mock_upstream: MockUpstream, make: Make) -> AsyncIterator[OpenAIProvider]:
    mock_upstream.default = embedded()
    provider = make("mock", mock_upstream.base_url, "sk-embed")
    yield provider
    await provider.aclose()


class Scripted(SimulatedProvider):
    """Raises what is on its list, then gives vectors, each after `seconds`."""

    def __init__(self, *script: ProviderError, seconds: float = 0.0) -> None:
        super().__init__()
        self.script = list(script)
        self.seconds = seconds
        self.asked: list[str] = []
        self.under_way = self.most_under_way = 0

    async def embed(
        self, model: Model, request: EmbeddingRequest, *, timeout_s: float | None = None
    ) -> Embeddings:
        self.asked.append(model.id)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.under_way -= 1
        if self.script:
            raise self.script.pop(0)
        return VECTORS


async def test_the_request_goes_to_its_own_address(
    provider: OpenAIProvider, mock_upstream: MockUpstream
) -> None:
    answer = await provider.embed(MODEL, EmbeddingRequest(["a", "b"], {"dimensions": 2}))
    (sent,) = mock_upstream.requests
    assert sent.path == "/v1/embeddings"
    assert sent.body == {"model": "vectors-id", "input": ["a", "b"], "dimensions": 2}
    assert sent.headers["Authorization"] == "Bearer sk-embed"
    assert sent.headers["Accept-Encoding"] == "identity"
    assert answer.usage == Usage(5)
    assert len(answer.raw["data"]) == 2


async def test_answers_and_embeddings_of_one_endpoint(
    provider: OpenAIProvider, mock_upstream: MockUpstream
) -> None:
    await provider.embed(MODEL, WORDS)
    mock_upstream.script(ok("Hello."))
    assert (await provider.complete(make_model("chat"), Request.from_text("hi"))).text == "Hello."
    await provider.embed(MODEL, WORDS)
    assert [sent.path.rpartition("/")[2] for sent in mock_upstream.requests] == [
        "embeddings",
        "completions",
        "embeddings",
    ]


async def test_what_is_no_list_of_embeddings(provider: OpenAIProvider, mock_upstream: MockUpstream) -> None:
    mock_upstream.script(ok("no vectors"), error(401))
    with pytest.raises(ProviderResponseError, match="without a list of embeddings"):
        await provider.embed(MODEL, WORDS)
    with pytest.raises(ProviderAuthError) as refused:
        await provider.embed(MODEL, WORDS)
    assert "sk-embed" not in str(refused.value)
    with pytest.raises(ProviderRequestError, match="cannot be written as JSON"):
        await provider.embed(MODEL, EmbeddingRequest("x", {"odd": object()}))


async def test_an_answer_that_is_too_long(mock_upstream: MockUpstream, make: Make) -> None:
    mock_upstream.default = embedded()
    provider = make("mock", mock_upstream.base_url, max_body_bytes=20)
    with pytest.raises(ProviderResponseError, match="more than 20 bytes"):
        await provider.embed(MODEL, WORDS)
    await provider.aclose()


async def test_who_does_not_wait_hangs_up(provider: OpenAIProvider, mock_upstream: MockUpstream) -> None:
    mock_upstream.script(hang())
    with pytest.raises(ProviderTimeoutError, match=r"within 0\.1 s"):
        await provider.embed(MODEL, WORDS, timeout_s=0.1)
    assert await mock_upstream.requests[0].wait_disconnected(0.5)


async def test_the_circuit_opens_for_embeddings(
    provider: OpenAIProvider, mock_upstream: MockUpstream
) -> None:
    guard = GuardedProvider(provider, breaker_failures=2)
    mock_upstream.script(server_error(), server_error())
    for _ in range(2):
        with pytest.raises(ProviderUnavailableError):
            await guard.embed(MODEL, WORDS)
    with pytest.raises(CircuitOpenError):
        await guard.embed(MODEL, WORDS)
    assert len(mock_upstream.requests) == 2
    assert guard.health(MODEL).condition == "open"


async def test_a_429_cools_an_embedding_model(provider: OpenAIProvider, mock_upstream: MockUpstream) -> None:
    guard = GuardedProvider(provider)
    mock_upstream.script(rate_limited("7"))
    with pytest.raises(ProviderRateLimitError):
        await guard.embed(MODEL, WORDS)
    with pytest.raises(ModelCoolingError) as cooling:
        await guard.embed(MODEL, WORDS)
    assert cooling.value.retry_after_s == pytest.approx(7, abs=0.5)
    assert len(mock_upstream.requests) == 1


async def test_each_attempt_is_bounded() -> None:
    guard = GuardedProvider(Scripted(seconds=30), call_timeout_s=0.02)
    with pytest.raises(ProviderTimeoutError, match=r"within 0\.02 s"):
        await guard.embed(MODEL, WORDS)


async def test_slots_are_shared_and_given_back() -> None:
    inner = Scripted(ProviderResponseError("broken"), seconds=0.01)
    guard = GuardedProvider(inner, max_concurrency_per_model=2)
    done = await asyncio.gather(*(guard.embed(MODEL, WORDS) for _ in range(6)), return_exceptions=True)
    assert [type(each) for each in done].count(Embeddings) == 5
    assert inner.most_under_way == 2
    assert await guard.embed(MODEL, WORDS) is VECTORS


async def test_retries_wait_and_ask_again() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    inner = Scripted(ProviderUnavailableError("down"), ProviderTimeoutError("slow", retry_after_s=2.0))
    retrying = RetryingProvider(GuardedProvider(inner), sleep=sleep, uniform=lambda low, high: high)
    assert await retrying.embed(MODEL, WORDS) is VECTORS
    assert waits == [0.25, 2.25]
    inner.script = [ProviderRequestError("wrong dimensions")]
    with pytest.raises(ProviderRequestError):
        await retrying.embed(MODEL, WORDS)
    assert len(inner.asked) == 4


async def test_the_callers_time_out_bounds_all_attempts() -> None:
    retrying = RetryingProvider(GuardedProvider(Scripted(seconds=30)))
    with pytest.raises(ProviderTimeoutError, match=r"within 0\.02 s"):
        await retrying.embed(MODEL, WORDS, timeout_s=0.02)
    assert retrying.health(MODEL).ok, "a caller in a hurry does not speak against the endpoint"


async def test_several_endpoints_of_an_embedding_model() -> None:
    first, second = Scripted(ProviderAuthError("no key")), Scripted()
    places = tuple(ModelEndpoint(name, name, f"{name}-id", MODEL.price) for name in ("a", "b"))
    model = replace(MODEL, provider="a", endpoints=places)
    guarded = {"a": GuardedProvider(first), "b": GuardedProvider(second)}
    retrying = RetryingProvider(BalancedProvider(guarded, draw=lambda: 0.5))
    assert [(await retrying.embed(model, WORDS)).endpoint for _ in range(2)] == ["b", "a"]
    assert (first.asked, second.asked) == (["a-id", "a-id"], ["b-id"])


@pytest.mark.parametrize("wrap", [GuardedProvider, lambda inner: RetryingProvider(GuardedProvider(inner))])
async def test_an_endpoint_without_embeddings(wrap: Callable[[SimulatedProvider], GuardedProvider]) -> None:
    with pytest.raises(ProviderRequestError, match="'mock' gives no embeddings"):
        await wrap(SimulatedProvider()).embed(MODEL, WORDS)
