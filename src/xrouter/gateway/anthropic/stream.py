"""A stream of chunks as the events of a message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import XRouterError
from ..deltas import ChunkReader
from ..stream import named_event
from .blocks import Blocks
from .reply import ending, error_body, head, usage_object
from .request import Asked


class MessageStream:
    """message_start and ping with the first chunk, then the blocks; message_delta and message_stop at the end.

    The counts in message_start are zero: they are known only at the end, where message_delta says them all.
    """

    verbatim = False

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._reader = ChunkReader()
        self._blocks = Blocks(thinking=asked.thinking)
        self._started = False

    def feed(self, chunk: Mapping[str, Any]) -> bytes:
        deltas = self._reader.read(chunk)
        return self._start() + _events(self._blocks.add(deltas))

    def finish(self) -> bytes:
        delta: dict[str, Any] = {
            "type": "message_delta",
            "delta": ending(self._reader, self._blocks, self._asked.stop_sequences),
            "usage": usage_object(self._reader.usage),
        }
        if self._reader.xrouter is not None:
            delta["xrouter"] = self._reader.xrouter
        return self._start() + _events([*self._blocks.end(), delta, {"type": "message_stop"}])

    def error(self, error: XRouterError, request_id: str) -> bytes:
        return named_event(error_body(error, request_id))

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        message = head(self._reader.id, self._reader.model or self._asked.chat.model)
        usage = {"input_tokens": 0, "output_tokens": 0}
        return _events([{"type": "message_start", "message": {**message, "usage": usage}}, {"type": "ping"}])


def _events(events: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(map(named_event, events))
