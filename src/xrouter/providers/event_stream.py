"""The stream of an HTTP answer: bytes read, blocks handed over, one timer for all waits."""

from __future__ import annotations

from collections.abc import Awaitable

from ..errors import ProviderError
from ..messages import Block
from .block_reader import BlockReader
from .streams import BlockStream, Take
from .transport import Answer, Faults
from .watchdog import Watchdog


class EventStream(BlockStream):
    """`began`: since when the first block is waited for, on the loop's clock."""

    def __init__(
        self,
        answer: Answer,
        reader: BlockReader,
        faults: Faults,
        model: str,
        limit_s: float | None,
        began: float,
        max_bytes: int,
    ) -> None:
        super().__init__(reader.tally)
        self._answer = answer
        self._reader = reader
        self._faults = faults
        self._model = model
        self._limit_s = limit_s
        self._began: float | None = began
        self._max_bytes = max_bytes
        self._read_bytes = 0
        self._at_end = self._ended = False
        self._watchdog = None if limit_s is None else Watchdog(limit_s, answer.hang_up)

    async def _next(self) -> Block | None:
        watchdog, reader = self._watchdog, self._reader
        if watchdog is not None:
            watchdog.watch(self._began)
            self._began = None
        while not self._at_end:
            if reader.failed or reader.done:
                break
            try:
                data = await self._answer.read()
            except ProviderError as error:
                if watchdog is not None and watchdog.bites:
                    raise self._faults.timed_out(self._limit_s, self._model) from error
                raise
            if data:
                block = self._feed(data)
            else:
                self._at_end = True
                block = reader.finish()
            if block is not None:
                if watchdog is not None:
                    watchdog.rest()
                return block
        if watchdog is not None:
            watchdog.stop()
        if self._ended:
            return None
        self._ended = True
        return reader.end()

    async def _push(self, take: Take) -> None:
        watchdog, reader = self._watchdog, self._reader
        slow: Awaitable[None] | None = None

        def arrived(data: bytes) -> bool:
            nonlocal slow
            block = self._feed(data)
            if block is None:
                return not reader.done
            if watchdog is not None:
                watchdog.watch()
            slow = take(block)
            return slow is None and not (reader.done or reader.failed)

        if self._at_end or reader.done or reader.failed:
            return
        if watchdog is not None:
            watchdog.watch()
        try:
            await self._answer.push(arrived)
        except ProviderError:
            if watchdog is None or not watchdog.bites:
                raise
            # `_next` says that it took too long.
        if slow is not None:
            if watchdog is not None:
                watchdog.rest()
            await slow

    def _feed(self, data: bytes) -> Block | None:
        self._read_bytes += len(data)
        if self._read_bytes > self._max_bytes:
            raise self._faults.too_long(self._max_bytes, self._model)
        return self._reader.feed(data)

    async def _close(self) -> None:
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._reader.done or self._at_end:
            await self._answer.finish()
        else:
            self._answer.hang_up()
