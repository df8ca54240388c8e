"""Spans. Without OpenTelemetry (`otel.OtelTracer`) nothing is recorded, yet the trace's id is passed on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal, Protocol

from ..errors import XRouterError
from ..trace_context import TraceContext, current_trace, in_trace, new_trace

Attribute = str | bool | int | float | Sequence[str]
Kind = Literal["server", "client", "internal"]


class Span(Protocol):
    """One timed piece of work. `context` is what work below it has as its parent."""

    @property
    def context(self) -> TraceContext: ...

    @property
    def recording(self) -> bool:
        """Whether attributes go anywhere: where they do not, they need not be computed."""
        ...

    def set(self, attributes: Mapping[str, Attribute]) -> None: ...

    def fail(self, kind: str) -> None:
        """It went wrong. kind: the error's code or class, never its text."""
        ...

    def end(self) -> None: ...


class Tracer(Protocol):
    def start(
        self, name: str, kind: Kind, parent: TraceContext | None, attributes: Mapping[str, Attribute]
    ) -> Span: ...

    async def aclose(self) -> None:
        """Send what is left."""
        ...


class SilentSpan:
    """Records nothing."""

    recording = False

    def __init__(self, context: TraceContext) -> None:
        self.context = context

    def set(self, attributes: Mapping[str, Attribute]) -> None: ...

    def fail(self, kind: str) -> None: ...

    def end(self) -> None: ...


class SilentTracer:
    """Passes the caller's context on as it came; a request without one starts a trace, so that logs and models have an
    id in common."""

    def start(
        self, name: str, kind: Kind, parent: TraceContext | None, attributes: Mapping[str, Attribute]
    ) -> SilentSpan:
        return SilentSpan(parent or new_trace())

    async def aclose(self) -> None: ...


class span:  # noqa: N801 - read as a noun: `with span(...) as now:`
    """A span around the block, below `parent` or the current one; what leaves the block as an error fails it."""

    __slots__ = ("_current", "_span")

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        kind: Kind = "internal",
        attributes: Mapping[str, Attribute] | None = None,
        *,
        parent: TraceContext | None = None,
    ) -> None:
        self._span = tracer.start(name, kind, parent or current_trace(), attributes or {})
        self._current = in_trace(self._span.context)

    def __enter__(self) -> Span:
        self._current.__enter__()
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._current.__exit__()
        if error is not None:
            self._span.fail(kind_of(error))
        self._span.end()


def kind_of(error: BaseException) -> str:
    """An error in a word, for labels and spans: its code, "cancelled", or its class."""
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return "cancelled"
    if isinstance(error, XRouterError):
        return error.code or error.type
    return type(error).__name__
