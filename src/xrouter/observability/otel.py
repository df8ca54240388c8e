"""Spans by OpenTelemetry, sent by OTLP over HTTP (the extra `otel`).

The standard variables say where to and how: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME,
OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER and so on. Sending is a thread's work; a collector that is away costs
spans, not requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigurationError
from ..trace_context import TraceContext
from .tracing import Attribute, Kind

try:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import (
        NonRecordingSpan,
        SpanContext,
        SpanKind,
        Status,
        StatusCode,
        TraceFlags,
        TraceState,
        set_span_in_context,
    )
except ImportError as error:
    raise ConfigurationError(
        f"observability.tracing needs OpenTelemetry ({error.name} is missing): pip install 'xrouter[otel]', or turn"
        " tracing off",
        param="observability.tracing",
    ) from error

_KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}


class OtelSpan:
    def __init__(self, span: Any) -> None:
        self._span = span
        given = span.get_span_context()
        self.context = TraceContext(
            trace_id=f"{given.trace_id:032x}",
            span_id=f"{given.span_id:016x}",
            sampled=given.trace_flags.sampled,
            tracestate=given.trace_state.to_header(),
        )

    @property
    def recording(self) -> bool:
        return bool(self._span.is_recording())

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        self._span.set_attributes(attributes)

    def fail(self, kind: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR))

    def end(self) -> None:
        self._span.end()


class OtelTracer:
    """processor: an OpenTelemetry SpanProcessor; default: batches to the OTLP endpoint of the environment."""

    def __init__(self, processor: Any = None) -> None:
        if processor is None:
            processor = BatchSpanProcessor(_exporter())
        # A name in the environment counts more than this one.
        resource = Resource.create({"service.name": "xrouter"}).merge(_named_by_environment())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("xrouter")

    def start(
        self, name: str, kind: Kind, parent: TraceContext | None, attributes: Mapping[str, Attribute]
    ) -> OtelSpan:
        context = None if parent is None else set_span_in_context(NonRecordingSpan(_span_context(parent)))
        return OtelSpan(
            self._tracer.start_span(name, context, kind=_KINDS[kind], attributes=dict(attributes))
        )

    async def aclose(self) -> None:
        await asyncio.to_thread(self._provider.shutdown)


def _exporter() -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ConfigurationError(
            f"observability.tracing needs the OTLP exporter ({error.name} is missing): pip install 'xrouter[otel]'",
            param="observability.tracing",
        ) from error
    return OTLPSpanExporter()


def _named_by_environment() -> Any:
    from opentelemetry.sdk.resources import OTELResourceDetector

    return OTELResourceDetector().detect()


def _span_context(parent: TraceContext) -> Any:
    return SpanContext(
        trace_id=int(parent.trace_id, 16),
        span_id=int(parent.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT),
        trace_state=TraceState.from_header([parent.tracestate]) if parent.tracestate else TraceState(),
    )
