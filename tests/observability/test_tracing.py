from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from conftest import make_model

from xrouter.catalog.model import Model
from xrouter.errors import ProviderTimeoutError
from xrouter.messages import Chunk, Completion, Request, Usage
from xrouter.observability.build import make_tracer
from xrouter.observability.genai import content_attributes, routing_attributes
from xrouter.observability.metrics import Metrics
from xrouter.observability.provider import WatchedProvider
from xrouter.observability.record import RequestRecord
from xrouter.observability.tracing import SilentTracer, kind_of, span
from xrouter.providers.provider import Provider
from xrouter.settings_tables.observability import ObservabilitySettings
from xrouter.trace_context import TraceContext, current_trace, trace_headers

PARENT = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True, "rojo=1")
REQUEST = Request.from_text("PROMPT", temperature=0.5, max_tokens=9, seed=3, n=1, top_p=True)
MODEL = make_model("small", provider="google")
ANSWER = Completion(
    {"role": "assistant", "content": "ANSWER"},
    Usage(11, 7, 5),
    served_model="small-2026",
    raw={"id": "resp_1"},
)


class Recorded(Metrics):
    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Usage | None]] = []
        self.firsts: list[str] = []

    def upstream_call(self, model: str, outcome: str, seconds: float, usage: Usage | None = None) -> None:
        assert seconds >= 0
        self.calls.append((model, outcome, usage))

    def upstream_first_byte(self, model: str, seconds: float) -> None:
        self.firsts.append(model)


class Upstream:
    """Answers, or raises `error`; remembers the headers a call would have carried."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.sent: list[dict[str, str]] = []
        self.closed = 0

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        self.sent.append(trace_headers())
        if self.error is not None:
            raise self.error
        return ANSWER

    async def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        self.sent.append(trace_headers())
        try:
            yield Chunk({"n": 1})
            if self.error is not None:
                raise self.error
            yield Chunk({"n": 2}, Usage(11, 7))
        finally:
            self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


def test_the_callers_trace_is_passed_on_untouched_and_without_one_a_new_one_begins() -> None:
    tracer = make_tracer(ObservabilitySettings())
    assert isinstance(tracer, SilentTracer)
    with span(tracer, "chat xrouter", "server", parent=PARENT) as outer:
        assert outer.context == PARENT
        assert not outer.recording
        with span(tracer, "chat small", "client"):
            assert trace_headers() == PARENT.headers()
    with span(tracer, "chat xrouter", "server") as fresh:
        assert fresh.context.trace_id != PARENT.trace_id
        assert not fresh.context.sampled
        with span(tracer, "chat small", "client") as inner:
            assert inner.context == fresh.context
    assert current_trace() is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ProviderTimeoutError("late"), "upstream_timeout"),
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (ValueError("PROMPT"), "ValueError"),
    ],
)
def test_errors_in_a_word(error: BaseException, kind: str) -> None:
    assert kind_of(error) == kind


class TestWatchedProvider:
    def watched(self, upstream: Upstream, **options: Any) -> tuple[WatchedProvider, Recorded]:
        metrics = Recorded()
        return WatchedProvider(upstream, metrics, SilentTracer(), **options), metrics

    def test_it_is_a_provider(self) -> None:
        assert isinstance(self.watched(Upstream())[0], Provider)

    async def test_complete(self) -> None:
        upstream = Upstream()
        provider, metrics = self.watched(upstream)
        assert await provider.complete(MODEL, REQUEST, timeout_s=1) is ANSWER
        assert metrics.calls == [("small", "ok", ANSWER.usage)]
        assert list(upstream.sent[0]) == ["traceparent"]
        await provider.aclose()
        assert upstream.closed == 1

    async def test_failures_count_with_what_they_used(self) -> None:
        error = ProviderTimeoutError("late", usage=Usage(3, 0))
        provider, metrics = self.watched(Upstream(error))
        with pytest.raises(ProviderTimeoutError):
            await provider.complete(MODEL, REQUEST)
        with pytest.raises(ProviderTimeoutError):
            [chunk async for chunk in provider.stream(MODEL, REQUEST)]
        assert metrics.calls == [("small", "upstream_timeout", Usage(3, 0))] * 2

    async def test_stream(self) -> None:
        upstream = Upstream()
        provider, metrics = self.watched(upstream)
        seen = []
        async for chunk in provider.stream(MODEL, REQUEST):
            assert current_trace() is None, "the consumer's own context holds between two pieces"
            seen.append(chunk.data["n"])
        assert seen == [1, 2]
        assert metrics.calls == [("small", "ok", Usage(11, 7))]
        assert metrics.firsts == ["small"]
        assert list(upstream.sent[0]) == ["traceparent"]

    async def test_a_stream_that_is_left_is_closed_and_counted(self) -> None:
        upstream = Upstream()
        provider, metrics = self.watched(upstream)
        stream = provider.stream(MODEL, REQUEST)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        assert upstream.closed == 1
        assert metrics.calls == [("small", "cancelled", None)]


def test_routing() -> None:
    record = RequestRecord(
        "req_1",
        "chat",
        policy="learned",
        route="small > big",
        status=200,
        cost_usd=Decimal("0.5"),
        confidence=0.9,
    )
    attributes = routing_attributes(record)
    assert attributes["xrouter.route"] == "small > big"
    assert attributes["xrouter.cost_usd"] == 0.5
    assert attributes["xrouter.confidence"] == 0.9
    assert "xrouter.cache_saved_usd" not in attributes


def test_content_in_the_conventions_shape() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"city": "Oslo"}'}}
    request = Request.from_messages(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        ]
    )
    attributes = content_attributes(request, ANSWER, lambda text: text.replace("Oslo", "[city]"))
    assert json.loads(str(attributes["gen_ai.input.messages"])) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "f", "arguments": '{"city": "[city]"}'}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "rain"}]},
    ]
    assert json.loads(str(attributes["gen_ai.output.messages"])) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "ANSWER"}], "finish_reason": "stop"}
    ]


def test_what_cannot_be_redacted_is_not_captured() -> None:
    def redact(text: str) -> str:
        raise ValueError(text)

    assert content_attributes(REQUEST, ANSWER, redact) == {"xrouter.redaction_failed": "ValueError"}


def test_tracing_without_opentelemetry_says_what_to_install() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None
from xrouter.errors import ConfigurationError
from xrouter.observability.build import make_tracer
from xrouter.settings_tables.observability import ObservabilitySettings
make_tracer(ObservabilitySettings())
try:
    make_tracer(ObservabilitySettings(tracing=True))
except ConfigurationError as error:
    assert "xrouter[otel]" in str(error), error
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
