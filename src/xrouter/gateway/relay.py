"""A stream to the client: a model's own chunks as they come, or a whole answer cut into chunks.

The end of a stream is held back until the rows are committed; it carries `xrouter` and, where asked for, usage.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from ..answer import Answer
from ..catalog.model import Model
from ..episodes.booking import route_of
from ..messages import Chunk
from ..providers.usage import usage_object
from . import stream
from .api import Translator
from .asgi import Reply
from .reply import chat_completion, completion_id, dollars, xrouter_object


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
        self._finish_reason: str | None = None

    async def __call__(self, model: Model, chunk: Chunk) -> None:
        data = chunk.data
        choices = data.get("choices")
        if not choices:
            return  # the upstream's usage chunk: ours comes at the end
        if not self._reply.started:
            self._head["model"] = model.name
            await self._reply.start(self._translator, {**self._headers, "x-xrouter-route": model.name})
        ready, self._held = self._held, None
        mine = {name: value for name, value in data.items() if name != "usage"} | self._head
        if any(choice.get("finish_reason") for choice in choices):
            self._held = mine
            mine = {}
        events = b"".join(self._translator.feed(part) for part in (ready, mine) if part)
        if events:
            await self._reply.write(events)

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
