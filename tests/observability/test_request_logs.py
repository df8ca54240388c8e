from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
import time
from decimal import Decimal

import pytest

from xrouter.messages import Usage
from xrouter.observability.logs import RequestLog
from xrouter.observability.record import RequestRecord

RECORD = RequestRecord(
    request_id="req_1",
    api="chat",
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    key_id="key_7",
    model="xrouter",
    policy="learned",
    route="small > big",
    status=200,
    cache="miss",
    usage=Usage(11, 7),
    cost_usd=Decimal("0.00000012"),
    latency_s=1.25,
    first_byte_s=0.5,
    upstream_s=1.2484,
)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_line_a_request() -> None:
    stream = io.StringIO()
    log = RequestLog("json", stream)
    log.write(RECORD)
    log.close()
    (line,) = lines(stream)
    assert str(line.pop("time")).endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "xrouter.requests",
        "event": "request",
        "request_id": "req_1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "key_id": "key_7",
        "api": "chat",
        "model": "xrouter",
        "policy": "learned",
        "route": "small > big",
        "stream": False,
        "status": 200,
        "cache": "miss",
        "cost_usd": "0.00000012",
        "prompt_tokens": 11,
        "completion_tokens": 7,
        "latency_ms": 1250.0,
        "first_byte_ms": 500.0,
        "overhead_ms": 1.6,
    }


def test_text() -> None:
    stream = io.StringIO()
    log = RequestLog("text", stream)
    log.write(RequestRecord("req_2", "chat", model="xrouter", status=503, code="upstream_timeout"))
    log.close()
    (line,) = stream.getvalue().splitlines()
    assert " error   request request_id=req_2 " in line
    assert "code=upstream_timeout" in line


def test_off_writes_nothing_and_leaves_the_logger_alone() -> None:
    before = list(logging.getLogger("xrouter").handlers)
    log = RequestLog("off")
    log.write(RECORD)
    assert logging.getLogger("xrouter").handlers == before
    assert log.dropped == 0
    log.close()


def test_other_lines_of_xrouter_take_the_same_way_and_close_gives_the_logger_back() -> None:
    stream, logger = io.StringIO(), logging.getLogger("xrouter")
    before = (logger.level, logger.propagate, list(logger.handlers))
    log = RequestLog("json", stream)
    logging.getLogger("xrouter.caching").warning("cache: not read: %s", "gone")
    logging.getLogger("somebody.else").warning("not ours")
    log.close()
    log.close()
    assert [(line["level"], line["event"]) for line in lines(stream)] == [
        ("warning", "cache: not read: gone")
    ]
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_neither_prompt_nor_secret_gets_into_a_line() -> None:
    """Whatever a request holds: an unexpected error quotes it, and a client writes anything for a model's name."""
    stream = io.StringIO()
    log = RequestLog("json", stream)
    try:
        raise ValueError("PROM" + "PT", "sk-SEC" + "RET")
    except ValueError:
        logging.getLogger("xrouter.gateway").exception("req_1 failed")
    fields = set(RequestRecord.__dataclass_fields__)
    assert not fields & {"messages", "prompt", "content", "text", "key", "secret", "authorization", "tags"}
    log.write(RequestRecord("req_1", "chat", model="a\nb\u2028c" + "x" * 1000))
    log.close()
    assert "PROMPT" not in stream.getvalue()
    assert "SECRET" not in stream.getvalue()
    failed, named = lines(stream)
    assert failed["error"] == "ValueError"
    assert "test_request_logs.py" in str(failed["where"])
    assert named["model"] == "a?b?c" + "x" * 59


class Stuck(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        self.go.wait(10)
        return super().write(text)


def test_a_stuck_terminal_holds_up_nobody() -> None:
    stream = Stuck()
    log = RequestLog("json", stream, lines=10)
    started = time.perf_counter()
    for _ in range(50):
        log.write(RECORD)
    assert time.perf_counter() - started < 1
    assert 39 <= log.dropped <= 40
    stream.go.set()
    log.close()
    assert len(lines(stream)) == 50 - log.dropped


@pytest.mark.parametrize("form", ["json", "text"])
async def test_writing_does_not_block_the_loop(form: str) -> None:
    stream = Stuck()
    log = RequestLog(form, stream)  # type: ignore[arg-type]
    async with asyncio.timeout(1):
        log.write(RECORD)
        await asyncio.sleep(0)
    stream.go.set()
    log.close()
    assert stream.getvalue()
