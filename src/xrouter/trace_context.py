"""W3C Trace Context (https://www.w3.org/TR/trace-context-1/): read strictly, kept for the task, sent on."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass, replace

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE_KEY = r"[a-z0-9][a-z0-9_\-*/]{0,255}(?:@[a-z][a-z0-9_\-*/]{0,13})?"
_STATE_MEMBER = re.compile(
    rf"({_STATE_KEY})=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e])"
)
_MAX_MEMBERS = 32
_MAX_STATE = 512


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span's place in a trace. trace_id: 32 hexadecimal digits; span_id: 16; tracestate: other vendors', as it came."""

    trace_id: str
    span_id: str
    sampled: bool = False
    tracestate: str = ""

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def headers(self) -> dict[str, str]:
        """What a call downstream carries."""
        state = {"tracestate": self.tracestate} if self.tracestate else {}
        return {"traceparent": self.traceparent, **state}

    def child(self) -> TraceContext:
        """A new span of the same trace."""
        return replace(self, span_id=_identifier(8))


def new_trace() -> TraceContext:
    """The first span of a trace that nobody records."""
    while True:
        digits = secrets.token_hex(24)
        trace_id, span_id = digits[:32], digits[32:]
        if int(trace_id, 16) and int(span_id, 16):
            return TraceContext(trace_id, span_id)


def parse_trace_context(traceparent: str | None, tracestate: str | None = None) -> TraceContext | None:
    """None where there is no valid traceparent; a tracestate that breaks the grammar is dropped alone."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & 1), _state(tracestate or ""))


def _state(header: str) -> str:
    members = [part for part in (piece.strip(" \t") for piece in header.split(",")) if part]
    matches = [_STATE_MEMBER.fullmatch(member) for member in members]
    keys = {match[1] for match in matches if match}
    if len(header) > _MAX_STATE or len(members) > _MAX_MEMBERS or len(keys) != len(members):
        return ""
    return ",".join(members)


def _identifier(size: int) -> str:
    """Random hexadecimal digits, never all zero."""
    while True:
        digits = secrets.token_hex(size)
        if int(digits, 16):
            return digits


_current: ContextVar[TraceContext | None] = ContextVar("xrouter_trace", default=None)


class in_trace:  # noqa: N801 - read as a verb: `with in_trace(context):`
    """Calls made in the block, and in tasks started there, belong to this span."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: TraceContext) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token = _current.set(self._context)

    def __exit__(self, *error: object) -> None:
        _current.reset(self._token)


def current_trace() -> TraceContext | None:
    return _current.get()


def trace_headers() -> dict[str, str]:
    """The headers a call upstream carries; none outside a trace."""
    context = _current.get()
    return {} if context is None else context.headers()
