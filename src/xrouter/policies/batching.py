"""What many requests ask within one turn of the event loop, answered by one call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

ENOUGH = 32
"""So many are a batch in any case: a larger one costs each hardly less, and the loop stands still meanwhile."""

Asked = TypeVar("Asked")
Told = TypeVar("Told")


class Batching(Generic[Asked, Told]):
    """Collects until the event loop has run all that is ready, so a lone request waits for nothing. Where several wait
    it looks for more in the loop's next turns as long as each brings some: a large batch costs each a fraction.

    answer_all: the answers, in order, to what is of one kind; it must not block. Where it fails, each is asked alone, so
        that an error harms nobody but the one it is about.
    kind: only what is of equal kind is answered together.

    Any number of loops on any threads may use one instance; each has batches of its own.
    """

    def __init__(
        self, answer_all: Callable[[Sequence[Asked]], Sequence[Told]], kind: Callable[[Asked], Hashable]
    ) -> None:
        self._answer_all = answer_all
        self._kind = kind
        self._gathering = _Gathering()

    async def __call__(self, asked: Asked) -> Told:
        """The answer. Raises what `answer_all` raises of this one. Cancelling it takes it out of the batch."""
        loop = asyncio.get_running_loop()
        here = self._gathering
        if here.loop is not loop or not here.waiting:
            here.loop, here.waiting = loop, []
            loop.call_soon(self._gather, here.waiting, 1)
        told: asyncio.Future[Told] = loop.create_future()
        here.waiting.append((asked, told))
        return await told

    def _gather(self, waiting: list[tuple[Asked, asyncio.Future[Told]]], before: int) -> None:
        """before: so many waited a turn ago."""
        if before < len(waiting) < ENOUGH:
            asyncio.get_running_loop().call_soon(self._gather, waiting, len(waiting))
        else:
            self._answer(waiting)

    def _answer(self, waiting: list[tuple[Asked, asyncio.Future[Told]]]) -> None:
        self._gathering.waiting = []
        kinds: dict[Hashable, list[tuple[Asked, asyncio.Future[Told]]]] = {}
        for asked, told in waiting:
            if not told.done():
                kinds.setdefault(self._kind(asked), []).append((asked, told))
        for batch in kinds.values():
            self._answer_batch(batch)

    def _answer_batch(self, batch: list[tuple[Asked, asyncio.Future[Told]]]) -> None:
        try:
            answers = self._answer_all([asked for asked, _ in batch])
        except Exception as error:  # noqa: BLE001 - it belongs to a request, not to the event loop
            if len(batch) == 1:
                batch[0][1].set_exception(error)
            else:
                for one in batch:
                    self._answer_batch([one])
        else:
            for (_, told), answer in zip(batch, answers, strict=True):
                told.set_result(answer)


class _Gathering(threading.local):
    """The batch that this thread's running loop gathers."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.waiting: list[tuple[Any, asyncio.Future[Any]]] = []
