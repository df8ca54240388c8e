"""Streams of blocks: what every provider's stream looks like to those who pass it on.

A stream is opened before it is read: `open_stream` returns once the first block has come, or raises. So whoever
retries, hedges or falls back has one await to guard, and nothing stands between reader and upstream afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, runtime_checkable

from ..catalog.model import Model
from ..errors import ProviderTimeoutError
from ..messages import Block, Chunk, Request, Usage
from .provider import Provider
from .tally import Tally

Ended = Callable[[BaseException | None], None]

Take = Callable[[Block], Awaitable[None] | None]
"""Takes a block at once; what it returns, if anything, is to be awaited before the next."""


class BlockStream:
    """An opened stream. Iterate it once; close it early with `aclose`, which hangs up at once.

    Raises ProviderError from `__anext__`. endpoint: which of the model's endpoints is answering; None where the
    model has only one. A subclass gives `_next`, the next block or None at a proper end, and `_close`.
    """

    endpoint: str | None = None

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._first: Block | None = None
        self._over = False
        self._when_over: list[Ended] = []

    @property
    def usage(self) -> Usage:
        """What the stream has cost so far: as reported, or estimated from what has come."""
        return self._tally.usage()

    @property
    def reported(self) -> Usage | None:
        """What the upstream has said so far of the tokens."""
        return self._tally.reported

    async def start(self) -> BlockStream:
        """Wait for the first block, which is kept for the reader. Closes the stream where that fails."""
        try:
            self._first = await self._next()
        except BaseException as error:
            await self._end(error)
            raise
        if self._first is None:
            await self._end(None)
        return self

    def when_over(self, ended: Ended) -> None:
        """Call `ended` once, when the stream is: with None after a proper end, else with what ended it
        (GeneratorExit where the reader left)."""
        if self._over:
            ended(None)
        else:
            self._when_over.append(ended)

    def __aiter__(self) -> BlockStream:
        return self

    async def __anext__(self) -> Block:
        block = self._first
        if block is not None:
            self._first = None
            return block
        if self._over:
            raise StopAsyncIteration
        try:
            block = await self._next()
        except BaseException as error:
            await self._end(error)
            raise
        if block is None:
            await self._end(None)
            raise StopAsyncIteration
        return block

    async def pass_on(self, take: Take) -> None:
        """Hand every block to `take` until the end. Raises as `__anext__` does, and what `take` raises."""
        async for block in self:
            waiting = take(block)
            if waiting is not None:
                await waiting
            try:
                await self._push(take)
            except BaseException as error:
                await self._end(error)
                raise

    async def aclose(self) -> None:
        """Harmless when repeated, and after the end."""
        self._first = None
        await self._end(GeneratorExit())

    async def _end(self, error: BaseException | None) -> None:
        if self._over:
            return
        self._over = True
        try:
            await self._close()
        finally:
            for ended in self._when_over:
                ended(error)

    async def _next(self) -> Block | None:
        raise NotImplementedError

    async def _push(self, take: Take) -> None:
        """Where a subclass can: hand blocks to `take` from within the loop's own callbacks, which spares a task's turn
        for each. Returns whenever `_next` is to be asked again."""

    async def _close(self) -> None:
        raise NotImplementedError


@runtime_checkable
class BlockProvider(Protocol):
    """A provider that opens streams of blocks itself. Such a provider also keeps `timeout_s` exactly, so that
    nobody above needs a timer of their own."""

    async def open(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> BlockStream: ...


async def open_stream(
    provider: Provider, model: Model, request: Request, *, timeout_s: float | None = None
) -> BlockStream:
    """The provider's stream as blocks, its first block there. Raises ProviderError.

    `timeout_s` bounds the wait for each block.
    """
    opens: BlockProvider | None = provider if hasattr(provider, "open") else None  # type: ignore[assignment]
    if opens is not None:
        return await opens.open(model, request, timeout_s=timeout_s)
    return await _ChunkStream(provider, model, request, timeout_s).start()


async def chunks_of(opener: Callable[[], Awaitable[BlockStream]]) -> AsyncIterator[Chunk]:
    """The pieces of the stream that `opener` opens, one by one; closes it when left."""
    opened = await opener()
    try:
        async for block in opened:
            for chunk in block.chunks:
                yield chunk
    finally:
        await opened.aclose()


class _ChunkStream(BlockStream):
    """The stream of a provider that yields chunks only: each becomes a block of its own."""

    def __init__(self, provider: Provider, model: Model, request: Request, timeout_s: float | None) -> None:
        super().__init__(Tally(request))
        self._model = model
        self._timeout_s = timeout_s
        self._chunks = provider.stream(model, request, timeout_s=timeout_s)

    async def _next(self) -> Block | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                chunk = await anext(self._chunks)
            self._tally.add(chunk.data, chunk.usage)
            return Block.of(chunk)
        except StopAsyncIteration:
            return None
        except TimeoutError as error:
            raise ProviderTimeoutError(
                f"model {self._model.name!r} did not answer within {self._timeout_s:g} s",
                model=self._model.name,
            ) from error

    async def _close(self) -> None:
        aclose = getattr(self._chunks, "aclose", None)
        if aclose is not None:
            await aclose()
