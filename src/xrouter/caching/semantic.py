"""The semantic cache: which earlier question asked the same in other words.

Two ways, the first always, the second only with an embedding of the user's own:

1. The same plain words (`wording.plain_words`). The pointer lies in the store, so gateways share it.
2. A vector near enough (cosine) whose text differs in nothing that `wording.may_mean_the_same` knows to matter. The
   vectors stay in this process.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from .index import Vector, VectorIndex, unit
from .question import Question
from .store import Store
from .wording import may_mean_the_same, plain_words

Embed = Callable[[str], Any]
"""Text -> numbers (a sequence or an array, always as many), at once or to be awaited."""


@dataclass(slots=True)
class Place:
    """Where a question stands among those asked before."""

    key: str
    wording_key: str
    bucket: str
    text: str
    vector: Vector | None = None


class SemanticCache:
    """Finds keys of entries; the entries themselves are the store's."""

    def __init__(self, store: Store, *, max_entries: int, threshold: float, embed: Embed | None) -> None:
        self._store = store
        self._threshold = threshold
        self._embed = embed
        self._index = VectorIndex(max_entries)

    async def place(self, question: Question, key: str, text: str) -> Place:
        """Raises what the user's embedding raises."""
        wording_key = f"cache:{question.wording_key(plain_words(text))}"
        if self._embed is None:
            return Place(key, wording_key, "", text)
        return Place(key, wording_key, question.bucket(), text, await self._vector(text))

    async def candidates(self, place: Place) -> AsyncIterator[tuple[str, float]]:
        """(key, similarity) of entries that may serve, the likeliest first."""
        pointer = await self._store.get(place.wording_key)
        if pointer is not None:
            yield pointer.decode("ascii", "replace"), 1.0
        if place.vector is not None:
            for key, text, cosine in self._index.near(place.bucket, place.vector, self._threshold):
                if may_mean_the_same(text, place.text):
                    self._index.touch(key)
                    yield key, cosine

    async def remember(self, place: Place, ttl_s: float) -> None:
        await self._store.put(place.wording_key, place.key.encode(), ttl_s=ttl_s)
        if place.vector is not None:
            self._index.add(place.bucket, place.key, place.text, place.vector)

    def forget(self, key: str) -> None:
        """An entry that is gone."""
        self._index.remove(key)

    async def _vector(self, text: str) -> Vector:
        assert self._embed is not None
        if inspect.iscoroutinefunction(self._embed):
            return unit(await self._embed(text))
        # Computing an embedding may take longer than the event loop can wait.
        return unit(await asyncio.to_thread(self._embed, text))
