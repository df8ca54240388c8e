"""A stream of chunks as the events of a response."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import XRouterError
from ..deltas import ChunkReader, id_with
from ..reply import error_object
from ..stream import named_event
from .items import Items
from .reply import begun, failure, finished, status
from .request import Asked


class ResponseStream:
    """response.created and response.in_progress with the first chunk, then the items; the whole response at the end."""

    verbatim = False

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._reader = ChunkReader()
        self._items: Items | None = None
        self._sent = 0

    def feed(self, chunk: Mapping[str, Any]) -> bytes:
        deltas = self._reader.read(chunk)
        started, items = self._start()
        return started + self._events(items.add(deltas))

    def finish(self) -> bytes:
        started, items = self._start()
        ended = self._events(items.end(status(self._reader)))
        whole = finished(self._asked, self._reader, items)
        return started + ended + self._events([{"type": f"response.{whole['status']}", "response": whole}])

    def error(self, error: XRouterError, request_id: str) -> bytes:
        """response.failed for who follows the response, then an error event, which OpenAI's clients raise."""
        started, items = self._start()
        failed = {
            **begun(self._asked, self._reader),
            "status": "failed",
            "error": failure(error),
            "output": items.output(),
        }
        shape: dict[str, Any] = error_object(error)["error"]
        said = {name: shape[name] for name in ("code", "message", "param")}
        return started + self._events(
            [{"type": "response.failed", "response": failed}, {"type": "error", **said, "error": shape}]
        )

    def _start(self) -> tuple[bytes, Items]:
        if self._items is not None:
            return b"", self._items
        self._items = Items(id_with("", self._reader.id), logprobs=self._asked.logprobs)
        response = begun(self._asked, self._reader)
        kinds = ("response.created", "response.in_progress")
        return self._events({"type": kind, "response": response} for kind in kinds), self._items

    def _events(self, events: Iterable[Mapping[str, Any]]) -> bytes:
        framed = []
        for event in events:
            framed.append(named_event({**event, "sequence_number": self._sent}))
            self._sent += 1
        return b"".join(framed)
