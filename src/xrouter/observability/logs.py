"""The log: one line a request and whatever else xrouter has to say, written by a thread of its own.

Lines hold no prompt, answer or key. An error that nobody expected is shown by its class and where it arose, never by
its text, which may quote a request.
"""

from __future__ import annotations

import logging
import queue
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import Any, Literal, TextIO

import orjson

from .record import RequestRecord

QUEUE_LINES = 10_000
"""Lines that wait for a slow terminal or pipe; further ones are dropped and counted."""


class RequestLog:
    """Lines to `stream` until closed. Without one (`log = "off"`) `write` does nothing.

    It takes over the logger "xrouter" for as long as it is open.
    """

    def __init__(
        self, form: Literal["json", "text", "off"], stream: TextIO | None = None, *, lines: int = QUEUE_LINES
    ) -> None:
        self._on = form != "off"
        waiting: queue.Queue[Any] = queue.Queue(lines)
        self._queue = _DroppingHandler(waiting)
        if not self._on:
            return
        self._listener = _Listener(
            waiting, self._queue, sys.stderr if stream is None else stream, _FORMS[form]
        )
        self._logger = logging.getLogger("xrouter")
        self._before = (self._logger.level, self._logger.propagate)
        self._logger.addHandler(self._queue)
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        self._listener.start()

    def write(self, record: RequestRecord) -> None:
        """The record is read later, by the thread that writes: it must not change any more."""
        if self._on:
            self._queue.enqueue(record)

    @property
    def dropped(self) -> int:
        """Lines lost because nobody read fast enough, or that could not be written."""
        return self._queue.dropped

    def close(self) -> None:
        """Write what waits and give the logger back."""
        if not self._on:
            return
        self._on = False
        self._logger.removeHandler(self._queue)
        self._logger.level, self._logger.propagate = self._before
        self._listener.stop()


def fields_of(record: RequestRecord) -> dict[str, Any]:
    """What a line tells of a request. Money is a string of exact USD, times are milliseconds."""
    fields = {
        "request_id": record.request_id,
        "trace_id": record.trace_id or None,
        "key_id": record.key_id,
        "api": record.api,
        "model": _short(record.model),
        "policy": record.policy or None,
        "route": record.route or None,
        "stream": record.stream,
        "status": record.status,
        "code": record.code,
        "cache": record.cache,
        "cost_usd": format(record.cost_usd, "f"),
        "saved_usd": format(record.saved_usd, "f") if record.saved_usd else None,
        "prompt_tokens": record.usage.prompt_tokens,
        "completion_tokens": record.usage.completion_tokens,
        "latency_ms": round(record.latency_s * 1000, 1),
        "first_byte_ms": None if record.first_byte_s is None else round(record.first_byte_s * 1000, 1),
        "overhead_ms": round(record.overhead_s * 1000, 2),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _short(name: str) -> str:
    """A model's name as the client wrote it: printable and short, whatever was sent."""
    return "".join(character if character.isprintable() else "?" for character in name[:64])


@dataclass(slots=True)
class _Line:
    at: float
    level: str
    logger: str
    event: str
    fields: dict[str, Any]


def _line_of(item: logging.LogRecord | RequestRecord) -> _Line:
    if isinstance(item, RequestRecord):
        level = "error" if item.status >= 500 else "info"
        return _Line(item.at + item.latency_s, level, "xrouter.requests", "request", fields_of(item))
    return _Line(item.created, item.levelname.lower(), item.name, item.getMessage(), _error_of(item))


def _json_line(line: _Line) -> str:
    at = datetime.fromtimestamp(line.at, UTC).isoformat(timespec="milliseconds")
    fields = {"time": at, "level": line.level, "logger": line.logger, "event": line.event, **line.fields}
    return orjson.dumps(fields).decode()


def _text_line(line: _Line) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(line.at))
    told = " ".join(f"{name}={value}" for name, value in line.fields.items())
    return f"{at} {line.level:7} {line.event} {told}".rstrip()


_FORMS: Mapping[str, Callable[[_Line], str]] = {"json": _json_line, "text": _text_line}


def _error_of(record: logging.LogRecord) -> dict[str, str]:
    if not record.exc_info or record.exc_info[0] is None:
        return {}
    frames = "".join(traceback.format_tb(record.exc_info[2]))
    return {"error": record.exc_info[0].__name__, "where": frames}


class _DroppingHandler(QueueHandler):
    """Never waits: when the queue is full the line is lost and counted."""

    def __init__(self, lines: queue.Queue[Any]) -> None:
        super().__init__(lines)
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        # The listener is in this process: nothing has to be made fit for pickling.
        return record

    def enqueue(self, record: logging.LogRecord | RequestRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class _Listener(QueueListener):
    def __init__(
        self,
        lines: queue.Queue[Any],
        source: _DroppingHandler,
        stream: TextIO,
        form: Callable[[_Line], str],
    ) -> None:
        super().__init__(lines)
        self._lines = lines
        self._source = source
        self._stream = stream
        self._form = form

    def handle(self, item: Any) -> None:
        try:
            self._stream.write(self._form(_line_of(item)) + "\n")
            self._stream.flush()
        # The boundary of the thread: a line that cannot be written is lost, the next may do better.
        except Exception:  # noqa: BLE001
            self._source.dropped += 1

    def enqueue_sentinel(self) -> None:
        # The end of a full queue comes after what waits there.
        self._lines.put(None)
