"""A pool under watch, with a real provider in it."""

from __future__ import annotations

import asyncio

import pytest
from conftest import make_model
from serving_kit import make_router
from upstream import MockUpstream, ok, server_error

from xrouter.errors import ProviderUnavailableError
from xrouter.gateway.services import open_services
from xrouter.messages import Request
from xrouter.observability.build import make_metrics
from xrouter.observability.metrics import Metrics
from xrouter.observability.provider import WatchedProvider
from xrouter.observability.record import RequestRecord
from xrouter.observability.tracing import SilentTracer, span
from xrouter.observability.watching import watch_pool
from xrouter.providers.guard import GuardedProvider
from xrouter.providers.openai import OpenAIProvider
from xrouter.providers.pool import Pool
from xrouter.providers.retry import RetryingProvider
from xrouter.settings_tables.observability import ObservabilitySettings
from xrouter.trace_context import TraceContext

ASK = Request.from_text("What is 6 * 7?")
PARENT = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True, "rojo=1")


def counting() -> Metrics:
    return make_metrics(ObservabilitySettings(), models=["small"])


def watched_pool(upstream: MockUpstream, metrics: Metrics) -> tuple[Pool, GuardedProvider]:
    guard = GuardedProvider(
        OpenAIProvider("mock", upstream.base_url, "sk-secret"), breaker_failures=2, breaker_reset_s=60
    )
    retrying = RetryingProvider(guard, max_retries=1, base_delay_s=0.0)
    pool = Pool((make_model("small"),), {"mock": retrying}, "a notice")
    return watch_pool(pool, metrics, SilentTracer(), urls={"mock": upstream.base_url}), guard


async def test_attempts_are_counted_and_the_trace_reaches_the_model(mock_upstream: MockUpstream) -> None:
    metrics = counting()
    pool, _ = watched_pool(mock_upstream, metrics)
    assert pool.notice == "a notice"
    model = pool["small"]
    mock_upstream.script(server_error(), ok("42"))
    with span(SilentTracer(), "chat xrouter", "server", parent=PARENT):
        await pool.provider_of(model).complete(model, ASK)
        async for _ in pool.provider_of(model).stream(model, ASK):
            pass
    for request in mock_upstream.requests:
        headers = {name.lower(): value for name, value in request.headers.items()}
        assert headers["traceparent"] == PARENT.traceparent
        assert headers["tracestate"] == "rojo=1"
    text = (await metrics.render()).decode()
    assert 'xrouter_upstream_calls_total{model="small",outcome="upstream_unavailable"} 1.0' in text
    assert 'xrouter_upstream_calls_total{model="small",outcome="ok"} 2.0' in text
    assert 'xrouter_upstream_retries_total{model="small"} 1.0' in text
    assert 'xrouter_upstream_first_byte_seconds_count{model="small"} 1.0' in text
    await pool.aclose()


async def test_an_open_circuit_shows(mock_upstream: MockUpstream) -> None:
    metrics = counting()
    pool, guard = watched_pool(mock_upstream, metrics)
    model = pool["small"]
    mock_upstream.default = server_error()
    with pytest.raises(ProviderUnavailableError):
        await pool.provider_of(model).complete(model, ASK)
    assert guard.circuit_of(model) == "open"
    await asyncio.sleep(0)
    assert 'xrouter_circuit_state{model="small"} 2.0' in (await metrics.render()).decode()
    await pool.aclose()


async def test_a_provider_without_retries_is_watched_from_outside(mock_upstream: MockUpstream) -> None:
    provider = OpenAIProvider("mock", mock_upstream.base_url, "sk-secret")
    pool = watch_pool(Pool((make_model("small"),), {"mock": provider}), counting(), SilentTracer())
    watched = pool.provider_of(pool["small"])
    assert isinstance(watched, WatchedProvider)
    assert watched.inner is provider
    await pool.aclose()


async def test_without_a_trace_no_header_is_sent(mock_upstream: MockUpstream) -> None:
    provider = OpenAIProvider("mock", mock_upstream.base_url, "sk-secret")
    await provider.complete(make_model("small"), ASK)
    assert "traceparent" not in {name.lower() for name in mock_upstream.requests[0].headers}
    await provider.aclose()


async def test_a_gateways_own_names_are_labels(mock_upstream: MockUpstream) -> None:
    services = open_services(make_router(mock_upstream.base_url))
    for model in ("xrouter", "xrouter:quality", "small", "nonsense"):
        record = RequestRecord("r", "/v1/chat/completions", model=model, policy="scripted", status=200)
        services.metrics.request_ended(record)
    text = (await services.metrics.render()).decode()
    for model in ("xrouter", "xrouter:quality", "small", "other"):
        labels = f'api="/v1/chat/completions",model="{model}",policy="scripted",status="200"'
        assert f"xrouter_requests_total{{{labels}}} 1.0" in text
    await services.aclose()
