"""A stream to the client: a model's own chunks as they come, or a whole answer cut into chunks.

The end of a stream is held back until the rows are committed; it carries `xrouter` and, where asked for, usage.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any

import orjson

from ..answer import Answer
from ..catalog.model import Model
from ..episodes.booking import route_of
from ..messages import Block
from ..providers.usage import usage_object
from . import stream
from .api import Translator
from .asgi import Reply
from .reply import chat_completion, completion_id, dollars, xrouter_object

_OURS = ("usage", "xrouter")
"""Fields of the last chunk that no upstream writes."""


class Relay:
    """Passes chunks to the client under our id and the pool's name for the model. A `Sink`.

    headers: of the response, known before the first byte.
    """

    def __init__(
        self,
        reply: Reply,
        translator: Translator,
        episode_id: str,
        headers: Mapping[str, str],
        *,
        include_usage: bool,
    ) -> None:
        self._reply = reply
        self._translator = translator
        self._headers = headers
        self._include_usage = include_usage
        self._head: dict[str, Any] = {"id": completion_id(episode_id)}
        if include_usage:
            self._head["usage"] = None
        self._held: dict[str, Any] | None = None
        self._renaming: list[tuple[bytes, bytes]] | None = None

    def __call__(self, model: Model, block: Block) -> Awaitable[None] | None:
        if not self._reply.started:
            return self._start(model, block)
        if self._passes(block):
            return self._reply.write(self._renamed(block.raw))
        events = b"".join([self._translated(data) for data, _ in block.pieces])
        return self._reply.write(events) if events else None

    async def _start(self, model: Model, block: Block) -> None:
        self._begin(model, block)
        await self._reply.start(self._translator, {**self._headers, "x-xrouter-route": model.name})
        waiting = self(model, block)
        if waiting is not None:
            await waiting

    def _passes(self, block: Block) -> bool:
        """Whether its bytes may go on as they are but for the names."""
        if self._renaming is None:
            return False
        if block.text is not None:
            return True
        plain = not block.finished and block.usage is None
        return plain and not any("xrouter" in data for data, _ in block.pieces)

    def _begin(self, model: Model, block: Block) -> None:
        """Where the client speaks the upstream's own language, its events are passed on as they are but for id and
        model: both stand in every event, written alike."""
        self._head["model"] = model.name
        first = block.pieces[0][0] if block.pieces else {}
        if self._translator.verbatim and not self._include_usage:
            self._renaming = _renaming(block.raw, first, self._head)

    def _renamed(self, events: bytes) -> bytes:
        for theirs, ours in self._renaming or ():
            events = events.replace(theirs, ours)
        return events

    def _translated(self, data: Mapping[str, Any]) -> bytes:
        choices = data.get("choices")
        if not choices:
            return b""  # the upstream's usage chunk: ours comes at the end
        ready, self._held = self._held, None
        mine = {name: value for name, value in data.items() if name not in _OURS} | self._head
        if any(choice.get("finish_reason") for choice in choices):
            self._held = mine
            mine = {}
        return b"".join(self._translator.feed(part) for part in (ready, mine) if part)

    async def finish(self, answer: Answer) -> None:
        """The rest of the stream, all of it where nothing was relayed. Call once the rows are committed."""
        if not self._reply.started:
            self._headers = {
                **self._headers,
                "x-xrouter-route": route_of(answer.episode),
                "x-xrouter-cost-usd": dollars(answer.cost_usd),
            }
            await self.whole(chat_completion(answer, int(time.time())))
            return
        last = self._held or self._ending(answer)
        parts = [last]
        if self._include_usage:
            parts.append({**last, "choices": [], "usage": usage_object(answer.usage)})
        parts[-1] = {**parts[-1], "xrouter": xrouter_object(answer)}
        await self._end(parts)

    async def whole(self, completion: Mapping[str, Any]) -> None:
        """The whole stream, of an answer that is complete."""
        await self._reply.start(self._translator, self._headers)
        await self._end(stream.chunks(completion, include_usage=self._include_usage))

    async def _end(self, parts: Iterable[Mapping[str, Any]]) -> None:
        await self._reply.end(b"".join(map(self._translator.feed, parts)) + self._translator.finish())

    def _ending(self, answer: Answer) -> dict[str, Any]:
        """The end of a choice, for an upstream that closed its stream in good order but named no reason."""
        reason = answer.episode.completion.finish_reason
        choice = {"index": 0, "delta": {}, "finish_reason": reason}
        return {
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            **self._head,
            "choices": [choice],
        }


def _renaming(
    events: bytes, first: Mapping[str, Any], head: Mapping[str, Any]
) -> list[tuple[bytes, bytes]] | None:
    """What to replace in every event, as this upstream writes it; None where it writes id or model in a way of its own.

    Inside a text the quotation marks would be escaped, so that nothing a model says can look like these members.
    """
    found = []
    for name in ("id", "model"):
        theirs = orjson.dumps(first.get(name))
        written = next(
            (text for text in (b'"%s":%s', b'"%s": %s') if text % (name.encode(), theirs) in events), None
        )
        if written is None:
            return None
        found.append((written % (name.encode(), theirs), written % (name.encode(), orjson.dumps(head[name]))))
    return found
