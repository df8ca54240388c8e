from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrouter.trace_context import (
    TraceContext,
    current_trace,
    in_trace,
    new_trace,
    parse_trace_context,
    trace_headers,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{SPAN}-01"


def test_what_comes_in_goes_out() -> None:
    context = parse_trace_context(GIVEN, "congo=t61rcWkgMzE, rojo=00f067aa0ba902b7")
    assert context == TraceContext(TRACE, SPAN, True, "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7")
    assert context.headers() == {"traceparent": GIVEN, "tracestate": context.tracestate}
    child = context.child()
    assert child.trace_id == TRACE
    assert child.span_id != SPAN
    assert child.sampled


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        GIVEN.upper(),
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f" {GIVEN}",
        f"{GIVEN}\n",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01more",
    ],
)
def test_what_breaks_the_grammar_is_no_context(header: str | None) -> None:
    assert parse_trace_context(header) is None


@pytest.mark.parametrize("header", [f"01-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-03-what-the-future-holds"])
def test_later_versions_are_read_as_far_as_they_are_known(header: str) -> None:
    assert parse_trace_context(header) == TraceContext(TRACE, SPAN, True)


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("a=1,,b=2", "a=1,b=2"),
        ("tenant@vendor=x/y", "tenant@vendor=x/y"),
        ("A=1", ""),
        ("a", ""),
        ("a=", ""),
        ("a=1,a=2", ""),
        ("a=1=2", ""),
        ("a=\u00e4", ""),
        ("a=1\r\nx-evil: 1", ""),
        (",".join(f"k{i}=1" for i in range(33)), ""),
        ("a=" + "x" * 300, ""),
        ("k=" + "x" * 200 + ",l=" + "x" * 200 + ",m=" + "x" * 200, ""),
    ],
)
def test_a_tracestate_that_breaks_the_grammar_is_dropped_alone(state: str, kept: str) -> None:
    context = parse_trace_context(GIVEN, state)
    assert context is not None
    assert context.tracestate == kept


@settings(deadline=None)
@given(st.text(max_size=80), st.text(max_size=80))
def test_nothing_that_could_split_a_header_gets_through(traceparent: str, tracestate: str) -> None:
    for context in (parse_trace_context(traceparent, tracestate), parse_trace_context(GIVEN, tracestate)):
        for value in context.headers().values() if context else ():
            assert value.isascii()
            assert value.isprintable()


def test_new_traces_are_valid_and_different() -> None:
    contexts = {new_trace() for _ in range(100)}
    assert len(contexts) == 100
    assert all(parse_trace_context(context.traceparent) == context for context in contexts)


async def test_a_trace_holds_for_the_block_and_for_tasks_started_in_it() -> None:
    assert trace_headers() == {}

    async def inner() -> TraceContext | None:
        await asyncio.sleep(0)
        return current_trace()

    outer, deeper = new_trace(), new_trace()
    with in_trace(outer):
        with in_trace(deeper):
            task = asyncio.create_task(inner())
        assert trace_headers() == {"traceparent": outer.traceparent}
        assert await task == deeper
    assert current_trace() is None
