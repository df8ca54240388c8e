"""All of it together, in front of a real provider."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest
from conftest import make_model
from upstream import MockUpstream, ok, server_error

from xrouter.errors import ConfigurationError, ProviderUnavailableError
from xrouter.messages import Request
from xrouter.observability.observability import Observability
from xrouter.observability.record import RequestRecord
from xrouter.observability.tracing import span
from xrouter.providers.openai import OpenAIProvider
from xrouter.providers.pool import Pool
from xrouter.providers.retry import RetryingProvider
from xrouter.settings_tables.observability import ObservabilitySettings
from xrouter.trace_context import TraceContext

ASK = Request.from_text("What is 6 * 7?")
PARENT = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True, "rojo=1")


def watched_pool(upstream: MockUpstream, observability: Observability) -> tuple[Pool, RetryingProvider]:
    retrying = RetryingProvider(
        OpenAIProvider("mock", upstream.base_url, "sk-secret"),
        max_retries=1,
        breaker_failures=2,
        breaker_reset_s=60,
        base_delay_s=0.0,
    )
    pool = Pool((make_model("small"),), {"mock": retrying})
    return observability.watch(pool, {"mock": upstream.base_url}), retrying


async def test_attempts_are_counted_and_the_trace_reaches_the_model(mock_upstream: MockUpstream) -> None:
    observability = Observability.open(ObservabilitySettings(), models=["small"])
    pool, _ = watched_pool(mock_upstream, observability)
    model = pool["small"]
    mock_upstream.script(server_error(), ok("42"))
    with span(observability.tracer, "chat xrouter", "server", parent=PARENT):
        await pool.provider_of(model).complete(model, ASK)
        async for _ in pool.provider_of(model).stream(model, ASK):
            pass
    for request in mock_upstream.requests:
        headers = {name.lower(): value for name, value in request.headers.items()}
        assert headers["traceparent"] == PARENT.traceparent
        assert headers["tracestate"] == "rojo=1"
    text = (await observability.metrics.render()).decode()
    assert 'xrouter_upstream_calls_total{model="small",outcome="upstream_unavailable"} 1.0' in text
    assert 'xrouter_upstream_calls_total{model="small",outcome="ok"} 2.0' in text
    assert 'xrouter_upstream_first_byte_seconds_count{model="small"} 1.0' in text
    await pool.aclose()
    await observability.aclose()


async def test_an_open_circuit_shows(mock_upstream: MockUpstream) -> None:
    observability = Observability.open(ObservabilitySettings(), models=["small"])
    pool, retrying = watched_pool(mock_upstream, observability)
    model = pool["small"]
    mock_upstream.default = server_error()
    with pytest.raises(ProviderUnavailableError):
        await pool.provider_of(model).complete(model, ASK)
    assert retrying.breaker_of("small").state == "open"
    await asyncio.sleep(0)
    text = (await observability.metrics.render()).decode()
    assert 'xrouter_circuit_state{model="small"} 2.0' in text
    await pool.aclose()
    await observability.aclose()


async def test_without_a_trace_no_header_is_sent(mock_upstream: MockUpstream) -> None:
    provider = OpenAIProvider("mock", mock_upstream.base_url, "sk-secret")
    await provider.complete(make_model("small"), ASK)
    assert "traceparent" not in {name.lower() for name in mock_upstream.requests[0].headers}
    await provider.aclose()


async def test_by_default_nothing_is_logged_or_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    observability = Observability.open(ObservabilitySettings(), models=["small"])
    observability.metrics.request_started()
    observability.ended(RequestRecord("req_1", "chat", model="small", status=200))
    assert observability.prompts is None
    assert not observability.capture
    assert not observability.drain.draining
    assert b'xrouter_requests_total{api="chat",model="small"' in await observability.metrics.render()
    await observability.aclose()
    assert capfd.readouterr() == ("", "")
    assert os.listdir(tmp_path) == []


async def test_what_the_settings_turn_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = ObservabilitySettings(
        metrics=False, log="json", store_prompts=tmp_path / "p.jsonl", redact="xrouter.dotted:load_callable"
    )
    observability = Observability.open(settings, models=[])
    assert observability.redact is not None
    observability.ended(RequestRecord("req_1", "chat", status=200))
    await observability.aclose()
    assert '"request_id":"req_1"' in capfd.readouterr().err
    assert (tmp_path / "p.jsonl").exists()
    assert logging.getLogger("xrouter").propagate


def test_a_redaction_hook_that_is_not_there() -> None:
    with pytest.raises(ConfigurationError, match=r"observability\.redact"):
        Observability.open(ObservabilitySettings(redact="nowhere:hide"), models=[])
