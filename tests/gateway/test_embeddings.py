"""Embeddings: checked, passed through, booked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import openai
import pytest
from api_kit import body
from conftest import make_model
from serving_kit import ask_then_select, serving
from upstream import MockUpstream, embedded, ok, rate_limited, server_error

from xrouter.episodes.booking import NOBODY, Attribution
from xrouter.errors import (
    BudgetExceededError,
    ModelNotFoundError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderResponseError,
    RequestError,
)
from xrouter.gateway.embeddings import EmbeddingCall, embed, embedding_list, parse_embeddings, worst_cost
from xrouter.ledger.memory import MemoryLedger
from xrouter.providers.embedder import Embedder, EmbeddingRequest
from xrouter.providers.openai import OpenAIProvider
from xrouter.providers.pool import Pool
from xrouter.providers.retry import RetryingProvider
from xrouter.providers.simulated import SimulatedProvider
from xrouter.router import Router
from xrouter.settings import Settings


@pytest.fixture
async def router(mock_upstream: MockUpstream) -> AsyncIterator[Router]:
    mock_upstream.default = embedded()
    provider = RetryingProvider(OpenAIProvider("mock", mock_upstream.base_url), max_retries=0)
    vectors = make_model("vectors", kind="embedding")
    pool = Pool((make_model("small"),), {"mock": provider}, embedders=(vectors,))
    router = Router(ask_then_select("small"), pool=pool, ledger=MemoryLedger(), settings=Settings())
    yield router
    await router.aclose()


def call(**fields: Any) -> EmbeddingCall:
    return parse_embeddings(body({"model": "vectors", "input": "four words of text", **fields}))


@pytest.mark.parametrize("given", ["x", ["x", "y"], [1, 2], [[1, 2], [3]]])
def test_inputs(given: Any) -> None:
    asked = call(input=given, dimensions=2, encoding_format="base64", user="u", xrouter={"tags": ["a"]})
    assert asked.request == EmbeddingRequest(
        given, {"dimensions": 2, "encoding_format": "base64", "user": "u"}
    )
    assert asked.options == {"tags": ["a"]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [""]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": [1.5]}, "input"),
        ({"input": [True]}, "input"),
        ({"input": ["x"] * 2049}, "input"),
        ({"input": {"text": "x"}}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"xrouter": 3}, "xrouter"),
    ],
)
def test_refusals_name_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        call(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("given", "bound"), [("abc", 5), (["abc", "é"], 9), ([1, 2, 3], 3), ([[1], [2, 3]], 3)]
)
def test_the_bound_counts_bytes_and_tokens(given: Any, bound: int) -> None:
    assert EmbeddingRequest(given).bound_tokens == bound
    assert worst_cost(make_model(), EmbeddingRequest(given)) == Decimal(bound) / 1_000_000


async def test_passed_through_and_booked(router: Router, mock_upstream: MockUpstream) -> None:
    done = await embed(
        router, call(input=["a", "b"], dimensions=2), attribution=Attribution(key_id="k", tags=("t",))
    )
    answer = embedding_list(done)
    assert [each["embedding"] for each in answer["data"]] == [[0.5, 0.0], [0.5, 1.0]]
    assert answer["model"] == "vectors"
    assert answer["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    assert answer["xrouter"]["cost_usd"] == "0.000005"
    sent = mock_upstream.requests[-1]
    assert sent.path == "/v1/embeddings"
    assert sent.body == {"model": "vectors-id", "input": ["a", "b"], "dimensions": 2}
    ledger = router.ledger
    assert isinstance(ledger, MemoryLedger)
    (entry,), (row,) = ledger.episodes, ledger.calls
    assert (entry.cost_usd, entry.route, entry.key_id, entry.tags) == (
        Decimal("0.000005"),
        "vectors",
        "k",
        ("t",),
    )
    assert (row.usage.prompt_tokens, row.cost_usd, row.error) == (5, Decimal("0.000005"), None)


async def test_usage_that_is_missing_is_booked_at_its_bound(
    router: Router, mock_upstream: MockUpstream
) -> None:
    mock_upstream.default = embedded(usage=None)
    done = await embed(router, call(input="abc"), attribution=NOBODY)
    assert (done.embeddings.usage.prompt_tokens, done.embeddings.usage.estimated) == (5, True)


async def test_only_embedding_models_and_only_by_name(router: Router) -> None:
    for name in ("small", "xrouter", "nobody"):
        with pytest.raises(ModelNotFoundError):
            await embed(router, call(model=name), attribution=NOBODY)
    assert "vectors" not in router.pool


async def test_a_cap_holds_before_the_call(router: Router, mock_upstream: MockUpstream) -> None:
    with pytest.raises(BudgetExceededError):
        await embed(router, call(), max_cost_usd=Decimal("0.000001"), attribution=NOBODY)
    assert not mock_upstream.requests


async def test_failed_calls_are_booked(router: Router, mock_upstream: MockUpstream) -> None:
    mock_upstream.script(rate_limited("1"), ok("no vectors"), server_error())
    ledger = router.ledger
    assert isinstance(ledger, MemoryLedger)
    with pytest.raises(ProviderRateLimitError):
        await embed(router, call(), attribution=NOBODY)
    assert (ledger.calls[-1].cost_usd, ledger.episodes[-1].stop_reason) == (0, "failed")
    with pytest.raises(ProviderResponseError):
        await embed(router, call(), attribution=NOBODY)
    assert ledger.calls[-1].cost_usd == worst_cost(make_model(), call().request)
    assert ledger.calls[-1].error


async def test_an_endpoint_without_embeddings() -> None:
    wrapped = RetryingProvider(SimulatedProvider())
    assert isinstance(wrapped, Embedder)
    with pytest.raises(ProviderRequestError, match="no embeddings"):
        await wrapped.embed(make_model("m"), EmbeddingRequest("x"))


async def test_retries(router: Router, mock_upstream: MockUpstream) -> None:
    mock_upstream.script(server_error(), embedded())
    provider = RetryingProvider(OpenAIProvider("mock", mock_upstream.base_url), base_delay_s=0.001)
    answer = await provider.embed(make_model("m"), EmbeddingRequest("x"))
    assert len(answer.raw["data"]) == 1
    await provider.aclose()


@pytest.fixture
async def gateway_url(router: Router) -> AsyncIterator[str]:
    async with serving(router) as url:
        yield url


async def test_the_official_client(gateway_url: str, router: Router) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway_url}/v1", api_key="k", max_retries=0) as client:
        raw = await client.embeddings.with_raw_response.create(
            model="vectors", input=["a", "b"], extra_body={"xrouter": {"tags": ["search"]}}
        )
        answer = raw.parse()
        assert [list(each.embedding) for each in answer.data] == [[0.5, 0.0], [0.5, 1.0]]
        assert answer.usage.total_tokens == 5
        assert raw.headers["x-xrouter-cost-usd"] == "0.000005"
        assert [model.id async for model in client.models.list()][-2:] == ["small", "vectors"]
        with pytest.raises(openai.NotFoundError):
            await client.embeddings.create(model="small", input="a")
        with pytest.raises(openai.BadRequestError) as refused:
            await client.embeddings.create(
                model="vectors", input="a", extra_body={"xrouter": {"preset": "economy"}}
            )
        assert refused.value.param == "xrouter.preset"
        with pytest.raises(openai.APIStatusError) as capped:
            await client.embeddings.create(
                model="vectors", input="a", extra_headers={"x-xrouter-max-cost-usd": "0.0000001"}
            )
        assert capped.value.status_code == 402
    ledger = router.ledger
    assert isinstance(ledger, MemoryLedger)
    assert [entry.tags for entry in ledger.episodes] == [("search",)]
