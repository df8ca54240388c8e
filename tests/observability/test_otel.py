"""Spans as OpenTelemetry records them, in memory."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs the extra otel")

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from test_tracing import ANSWER, MODEL, PARENT, REQUEST, Upstream

from xrouter.errors import ProviderTimeoutError
from xrouter.observability.build import make_tracer
from xrouter.observability.metrics import Metrics
from xrouter.observability.otel import OtelTracer
from xrouter.observability.provider import WatchedProvider
from xrouter.observability.tracing import span
from xrouter.settings_tables.observability import ObservabilitySettings
from xrouter.trace_context import parse_trace_context


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> OtelTracer:
    return OtelTracer(SimpleSpanProcessor(exporter))


def watched(tracer: OtelTracer, upstream: Upstream, **options: Any) -> WatchedProvider:
    return WatchedProvider(upstream, Metrics(), tracer, url="https://api.example.com/v1", **options)


async def test_a_call_is_a_child_of_the_request_and_of_the_callers_trace(
    tracer: OtelTracer, exporter: InMemorySpanExporter
) -> None:
    upstream = Upstream()
    with span(tracer, "chat xrouter", "server", {"gen_ai.request.model": "xrouter"}, parent=PARENT):
        await watched(tracer, upstream).complete(MODEL, REQUEST)
    call, request = exporter.get_finished_spans()
    assert (request.name, call.name) == ("chat xrouter", "chat small-id")
    assert (request.kind.name, call.kind.name) == ("SERVER", "CLIENT")
    assert f"{request.context.trace_id:032x}" == PARENT.trace_id
    assert f"{request.parent.span_id:016x}" == PARENT.span_id
    assert call.parent.span_id == request.context.span_id
    sent = parse_trace_context(upstream.sent[0]["traceparent"], upstream.sent[0]["tracestate"])
    assert sent is not None
    assert (sent.trace_id, sent.tracestate, sent.sampled) == (PARENT.trace_id, "rojo=1", True)
    assert int(sent.span_id, 16) == call.context.span_id


async def test_genai_attributes_and_no_content(tracer: OtelTracer, exporter: InMemorySpanExporter) -> None:
    await watched(tracer, Upstream()).complete(MODEL, REQUEST)
    (call,) = exporter.get_finished_spans()
    assert dict(call.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "small-id",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": 3,
        "gen_ai.request.choice.count": 1,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.id": "resp_1",
        "gen_ai.response.model": "small-2026",
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 5,
        "server.address": "api.example.com",
        "server.port": 443,
    }
    assert "PROMPT" not in call.to_json()
    assert "ANSWER" not in call.to_json()


async def test_content_only_where_it_is_captured_and_redacted_first(
    tracer: OtelTracer, exporter: InMemorySpanExporter
) -> None:
    provider = watched(tracer, Upstream(), capture=True, redact=lambda text: text.replace("PROMPT", "[gone]"))
    assert await provider.complete(MODEL, REQUEST) is ANSWER
    (call,) = exporter.get_finished_spans()
    assert "[gone]" in call.attributes["gen_ai.input.messages"]
    assert "PROMPT" not in call.to_json()
    assert "ANSWER" in call.attributes["gen_ai.output.messages"]


async def test_a_failure_is_told_in_a_word(tracer: OtelTracer, exporter: InMemorySpanExporter) -> None:
    error = ProviderTimeoutError("the PROMPT was too long")
    with pytest.raises(ProviderTimeoutError):
        await watched(tracer, Upstream(error)).complete(MODEL, REQUEST)
    with pytest.raises(ProviderTimeoutError):
        [chunk async for chunk in watched(tracer, Upstream(error)).stream(MODEL, REQUEST)]
    for call in exporter.get_finished_spans():
        assert call.status.status_code.name == "ERROR"
        assert call.attributes["error.type"] == "upstream_timeout"
        assert "PROMPT" not in call.to_json()
    assert len(exporter.get_finished_spans()) == 2


async def test_a_stream_is_one_span_with_its_tokens(
    tracer: OtelTracer, exporter: InMemorySpanExporter
) -> None:
    upstream = Upstream()
    with span(tracer, "chat xrouter", "server") as request:
        assert len([chunk async for chunk in watched(tracer, upstream).stream(MODEL, REQUEST)]) == 2
    call, _ = exporter.get_finished_spans()
    assert call.attributes["gen_ai.usage.output_tokens"] == 7
    assert f"{call.parent.span_id:016x}" == request.context.span_id
    assert upstream.sent[0]["traceparent"].split("-")[2] == f"{call.context.span_id:016x}"


async def test_a_trace_that_is_not_sampled_is_not_recorded_but_passed_on(
    tracer: OtelTracer, exporter: InMemorySpanExporter
) -> None:
    parent = parse_trace_context(f"00-{PARENT.trace_id}-{PARENT.span_id}-00")
    upstream = Upstream()
    with span(tracer, "chat xrouter", "server", parent=parent) as request:
        assert not request.recording
        await watched(tracer, upstream).complete(MODEL, REQUEST)
    assert exporter.get_finished_spans() == ()
    assert upstream.sent[0]["traceparent"].startswith(f"00-{PARENT.trace_id}-")
    assert upstream.sent[0]["traceparent"].endswith("-00")


async def test_the_environment_names_the_service(
    monkeypatch: pytest.MonkeyPatch, exporter: InMemorySpanExporter
) -> None:
    for name, expected in ((None, "xrouter"), ("gateway-7", "gateway-7")):
        if name:
            monkeypatch.setenv("OTEL_SERVICE_NAME", name)
        exporter.clear()
        with span(OtelTracer(SimpleSpanProcessor(exporter)), "x"):
            pass
        assert exporter.get_finished_spans()[0].resource.attributes["service.name"] == expected


async def test_closing_sends_what_is_left_even_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    tracer = make_tracer(ObservabilitySettings(tracing=True))
    with span(tracer, "x"):
        pass
    await tracer.aclose()


async def test_spans_reach_the_collector_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[tuple[str, str | None, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append((self.path, self.headers.get("x-team"), body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=search")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        tracer = make_tracer(ObservabilitySettings(tracing=True))
        with span(tracer, "chat xrouter", "server", {"xrouter.policy": "learned"}):
            pass
        await tracer.aclose()
        server.shutdown()
    ((path, team, body),) = received
    assert (path, team) == ("/v1/traces", "search")
    assert b"chat xrouter" in body
    assert b"xrouter.policy" in body
