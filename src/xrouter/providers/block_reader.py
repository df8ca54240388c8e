"""The bytes of one event stream -> blocks. No I/O.

Bytes that are already plain `data: {...}` lines are neither split nor parsed, only searched for what matters: token
counts, a finish reason, an error, the end. Anything else the SSE standard allows goes through `sse.SSEParser` and
comes out in the same plain form.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import orjson

from ..errors import ProviderError, ProviderResponseError
from ..messages import Block, Request, Usage
from .openai_body import json_object
from .sse import DEFAULT_MAX_LINE_BYTES, SSEEvent, SSEParser
from .tally import Tally
from .upstream_errors import error_of_object
from .usage import usage_object, usage_of

MAX_UNSPLIT_BYTES = 64 * 1024
_DONE = b"data: [DONE]\n\n"


class BlockReader:
    """Feed it what was read; `done` says that the end mark has come, `finish` that the bytes are at their end.

    An error is raised only after what came before it has been handed over: with the next `feed` or `finish`, or
    at once where nothing came before; `failed` says that one is waiting.
    """

    def __init__(
        self,
        request: Request,
        *,
        provider: str,
        model: str,
        secrets: Iterable[str] = (),
        max_line_bytes: int = DEFAULT_MAX_LINE_BYTES,
    ) -> None:
        self.done = False
        self.tally = Tally(request)
        self._provider = provider
        self._model = model
        self._secrets = tuple(secrets)
        self._max_line_bytes = max_line_bytes
        self._tail = b""
        self._parser: SSEParser | None = None
        self._error: ProviderError | None = None
        self._last: Block | None = None
        self._finished = False

    @property
    def failed(self) -> bool:
        return self._error is not None

    def feed(self, data: bytes) -> Block | None:
        """The whole events in the bytes so far that no block had yet. Raises ProviderError."""
        if self._error is not None:
            raise self._error
        if self._parser is not None:
            return self._feed_parser(data)
        if self._tail:
            data, self._tail = self._tail + data, b""
        if not data.endswith(b"\n\n"):
            cut = data.rfind(b"\n\n") + 2 if b"\n\n" in data else 0
            if len(data) - cut > MAX_UNSPLIT_BYTES or not _may_be_plain(data[:cut], data[cut:]):
                return self._feed_parser(data)
            data, self._tail = data[:cut], data[cut:]
            if not data:
                return None
        plain = data
        if plain.endswith(_DONE):
            plain = plain[: -len(_DONE)]
            if not plain:
                self.done = True
                return None
        if not _is_plain(plain):
            data, self._tail = data + self._tail, b""
            return self._feed_parser(data)
        self.done = len(plain) != len(data)
        return self._block(plain)

    def finish(self) -> Block | None:
        """The last event, where the end of the bytes cut it short. Raises ProviderError."""
        if self._error is not None:
            raise self._error
        if self.done or (self._parser is None and not self._tail):
            return None
        parser = self._parser or SSEParser(self._max_line_bytes)
        tail, self._tail, self._parser = self._tail, b"", None
        return self._events(parser.feed(tail) + parser.finish())

    def end(self) -> Block | None:
        """A block of estimated usage where the upstream sent none.

        Raises ProviderError, also when the stream ended before its time.
        """
        if self._error is not None:
            raise self._error
        if self._last is None:
            raise self._broken("without a single chunk")
        if not self.done and not self._finished:
            raise self._broken("without finish_reason or [DONE]")
        return None if self.tally.reported else self._estimate()

    def _feed_parser(self, data: bytes) -> Block | None:
        if self._parser is None:
            self._parser = SSEParser(self._max_line_bytes)
            data, self._tail = self._tail + data, b""
        events = self._parser.feed(data)
        if self._parser.between_events:
            self._parser = None
        return self._events(events)

    def _events(self, events: list[SSEEvent]) -> Block | None:
        lines: list[bytes] = []
        try:
            for event in events:
                if event.is_done:
                    self.done = True
                    break
                lines.append(self._plain(event.data))
        except ProviderError as error:
            self._error = error
        if not lines:
            if self._error is not None:
                raise self._error
            return None
        return self._block(b"".join(lines))

    def _plain(self, data: bytes) -> bytes:
        """The event on one line."""
        if data[:1] == b"{" and data[-1:] == b"}" and b"\n" not in data:
            return b"data: " + data + b"\n\n"
        parsed = json_object(data, provider=self._provider, model=self._model)
        return b"data: " + orjson.dumps(parsed) + b"\n\n"

    def _block(self, raw: bytes) -> Block | None:
        """Plain events as a block; parsed only where they may hold usage or an error."""
        if b'"error"' in raw or _mentions(raw, b'"usage"'):
            return self._parsed(raw)
        return self._note(Block(raw, finished=_mentions(raw, b'"finish_reason"', b'""')))

    def _parsed(self, raw: bytes) -> Block | None:
        lines: list[bytes] = []
        usage: Usage | None = None
        try:
            for line in raw.split(b"\n\n"):
                if line:
                    data = json_object(line[6:], provider=self._provider, model=self._model)
                    if data.get("error"):
                        raise error_of_object(
                            data["error"], provider=self._provider, model=self._model, secrets=self._secrets
                        )
                    usage = usage_of(data.get("usage")) or usage
                    lines.append(line)
        except ProviderError as error:
            self._error = error
            if not lines:
                raise
        raw = b"\n\n".join([*lines, b""])
        return self._note(Block(raw, usage, finished=_mentions(raw, b'"finish_reason"', b'""')))

    def _note(self, block: Block) -> Block:
        self.tally.add(block)
        self._last = block
        self._finished = self._finished or block.finished
        return block

    def _estimate(self) -> Block:
        usage = self.tally.usage()
        last = self._last.chunks[-1].data if self._last else {}
        data: dict[str, Any] = {
            "id": last.get("id", ""),
            "object": "chat.completion.chunk",
            "created": last.get("created", int(time.time())),
            "model": last.get("model", self._model),
            "choices": [],
            "usage": usage_object(usage),
        }
        return Block(b"data: " + orjson.dumps(data) + b"\n\n", usage)

    def _broken(self, how: str) -> ProviderResponseError:
        return ProviderResponseError(
            f"provider {self._provider!r} ended its stream {how} for model {self._model!r}",
            model=self._model,
        )


def _is_plain(data: bytes) -> bool:
    """Whether these bytes, which end with a blank line, are `data: {...}` lines with a blank line after each."""
    if not data.startswith(b"data: {") or not data.endswith(b"}\n\n") or b"\r" in data:
        return False
    breaks = data.count(b"\n")
    return breaks == 2 or breaks == 2 * (data.count(b"}\n\ndata: {") + 1)


def _may_be_plain(head: bytes, tail: bytes) -> bool:
    """Whether it pays to wait for the rest of `tail`, an event that is not whole yet."""
    if b"\r" in tail or (head and not head.startswith(b"data: ")):
        return False
    return tail.startswith(b"data: ") or b"data: ".startswith(tail)


def _mentions(raw: bytes, name: bytes, *nothing: bytes) -> bool:
    """Whether the events give `name` a value other than null and those in `nothing`, by searching alone."""
    count = raw.count(name)
    if count == 0 or count == raw.count(name + b":null"):
        return False
    spellings = [name + colon + value for colon in (b":", b": ") for value in (b"null", *nothing)]
    return count != sum(raw.count(spelling) for spelling in spellings)
