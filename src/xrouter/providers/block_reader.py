"""The bytes of one event stream -> blocks. No I/O.

Bytes that are already plain `data: {...}` lines, as they are nearly everywhere, are passed on as they came; each line
is parsed once, which costs less than to search it for what matters and proves it whole, unless it is alike to one before
(`alike.Alike`). Whatever else the SSE standard allows goes through `sse.SSEParser` and comes out in the same plain form.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from ..errors import ProviderError, ProviderResponseError
from ..messages import Block, Chunk, Request, Usage
from .alike import Alike
from .openai_body import check_shape, json_object
from .sse import DEFAULT_MAX_LINE_BYTES, SSEEvent, SSEParser
from .tally import Tally
from .upstream_errors import error_of_object
from .usage import usage_object, usage_of

MAX_UNSPLIT_BYTES = 64 * 1024
"""Of an event that is not whole yet; a longer one goes to the parser, which does not begin again with each read."""

SHAPES_TRIED = 4
"""How many events are looked at for a shape that others share; the first, which names the role, often has its own."""

_DONE = b"data: [DONE]\n\n"


class BlockReader:
    """Feed it what was read; `done` says that the end mark has come, `finish` that the bytes are at their end.

    An error waits until what came before it has been handed over; `failed` says that one is waiting, and whatever is
    called next raises it.
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
        self._alike: Alike | None = None
        self._shapes_left = SHAPES_TRIED

    @property
    def failed(self) -> bool:
        return self._error is not None

    def feed(self, data: bytes) -> Block | None:
        """The whole events that these bytes complete. Raises ProviderError."""
        if self._error is not None:
            raise self._error
        if self._parser is not None:
            return self._feed_parser(data)
        if self._tail:
            data, self._tail = self._tail + data, b""
        if self._alike is not None and (text := self._alike.text_of(data)) is not None:
            self.tally.add_text(text)
            self._last = Block(data, None, text=text)
            return self._last
        tail = b""
        if not data.endswith(b"\n\n"):
            cut = data.rfind(b"\n\n")
            cut = 0 if cut < 0 else cut + 2
            tail = data[cut:]
            if not _may_become_plain(tail):
                return self._feed_parser(data)
            data = data[:cut]
        plain = data[: -len(_DONE)] if data.endswith(_DONE) else data
        if plain and not _is_plain(plain):
            return self._feed_parser(data + tail)
        self._tail = tail
        self.done = len(plain) != len(data)
        return self._block(plain.split(b"\n\n")) if plain else None

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
        return None if self.tally.reported else self._estimate(self._last.pieces[-1][0])

    def _feed_parser(self, data: bytes) -> Block | None:
        if self._parser is None:
            self._parser = SSEParser(self._max_line_bytes)
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
                lines.append(b"data: " + self._one_line(event.data))
        except ProviderError as error:
            self._error = error
        if lines:
            return self._block(lines)
        if self._error is not None:
            raise self._error
        return None

    def _one_line(self, data: bytes) -> bytes:
        if b"\n" not in data:
            return data
        return orjson.dumps(json_object(data, provider=self._provider, model=self._model))

    def _block(self, lines: list[bytes]) -> Block | None:
        """Lines of `data: ` and an event each. Those before a bad one become a block, and its error waits."""
        pieces: list[tuple[Mapping[str, Any], Usage | None]] = []
        last_usage: Usage | None = None
        finished = False
        try:
            for line in lines:
                if not line:
                    continue  # what follows the last blank line
                data = json_object(line[6:], provider=self._provider, model=self._model)
                if data.get("error"):
                    raise error_of_object(
                        data["error"], provider=self._provider, model=self._model, secrets=self._secrets
                    )
                check_shape(data, provider=self._provider, model=self._model)
                usage = usage_of(data["usage"]) if data.get("usage") else None
                last_usage = usage or last_usage
                finished = self.tally.add(data, usage) or finished
                pieces.append((data, usage))
        except ProviderError as error:
            self._error = error
            if not pieces:
                raise
        raw = b"\n\n".join([*lines[: len(pieces)], b""])
        self._last = Block(raw, pieces, last_usage, finished=finished)
        self._finished = self._finished or finished
        if self._shapes_left and len(pieces) == 1:
            self._shapes_left -= 1
            self._alike = Alike.of(lines[0], pieces[0][0]) or self._alike
        return self._last

    def _estimate(self, last: Mapping[str, Any]) -> Block:
        usage = self.tally.usage()
        return Block.of(
            Chunk(
                {
                    "id": last.get("id", ""),
                    "object": "chat.completion.chunk",
                    "created": last.get("created", int(time.time())),
                    "model": last.get("model", self._model),
                    "choices": [],
                    "usage": usage_object(usage),
                },
                usage,
            )
        )

    def _broken(self, how: str) -> ProviderResponseError:
        return ProviderResponseError(
            f"provider {self._provider!r} ended its stream {how} for model {self._model!r}",
            model=self._model,
        )


def _is_plain(data: bytes) -> bool:
    """Whether these bytes, which end with a blank line, are `data: {...}` lines with a blank line after each."""
    if not data.startswith(b"data: {") or b"\r" in data:
        return False
    breaks = data.count(b"\n")
    return breaks == 2 or breaks == 2 * (data.count(b"\n\ndata: {") + 1)


def _may_become_plain(tail: bytes) -> bool:
    """Whether the beginning of an event can wait here for its rest."""
    if len(tail) > MAX_UNSPLIT_BYTES or b"\r" in tail:
        return False
    return tail.startswith(b"data: ") or b"data: ".startswith(tail)
