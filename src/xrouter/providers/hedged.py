"""Hedged requests: where an answer is slow to come, the same question is asked once more, and the first good answer wins
(J. Dean and L. A. Barroso, "The Tail at Scale", CACM 2013).

The other call is ended, and what it may have cost goes to `Request.side_calls`.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from ..catalog.model import Model
from ..errors import ProviderError
from ..messages import Chunk, Completion, Request, SideCall, Usage
from .health import Health, health_of
from .provider import Provider
from .streams import BlockStream, chunks_of, open_stream
from .usage import estimate_prompt_tokens

T = TypeVar("T", Completion, BlockStream)

KEPT_LATENCIES = 128
ENOUGH_LATENCIES = 20


class HedgedProvider:
    """Wraps `inner`; the second call goes to `second` (the same one where there is no other endpoint).

    A model is hedged after its `hedge_after_s` seconds without an answer (for a stream: without its first block), or
    after the `hedge_percentile` of its last latencies, once ENOUGH_LATENCIES are known. Models with neither are
    passed on. A first call that fails before the second is made raises; afterwards the other one is waited for.
    clock: seconds, monotonic.
    """

    def __init__(
        self,
        inner: Provider,
        second: Provider | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inner = inner
        self.second = second or inner
        self._clock = clock
        self._latencies: dict[tuple[str, str], deque[float]] = {}

    def __repr__(self) -> str:
        return f"HedgedProvider({self.inner!r})"

    def health(self, model: Model) -> Health:
        return health_of(self.inner, model)

    def delay_s(self, model: Model, kind: str) -> float | None:
        """Seconds after which a call of this kind ("complete" or "open") is hedged; None = never, or not yet known."""
        if model.hedge_after_s is not None or model.hedge_percentile is None:
            return model.hedge_after_s
        return percentile(self._latencies.get((model.name, kind), ()), model.hedge_percentile)

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        async def ask(provider: Provider, asked: Request) -> Completion:
            return await provider.complete(model, asked, timeout_s=timeout_s)

        return await self._race(model, request, "complete", ask)

    async def open(self, model: Model, request: Request, *, timeout_s: float | None = None) -> BlockStream:
        async def ask(provider: Provider, asked: Request) -> BlockStream:
            return await open_stream(provider, model, asked, timeout_s=timeout_s)

        return await self._race(model, request, "open", ask)

    def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        """As `open`, piece by piece."""
        return chunks_of(partial(self.open, model, request, timeout_s=timeout_s))

    async def aclose(self) -> None:
        await self.inner.aclose()
        if self.second is not self.inner:
            await self.second.aclose()

    async def _race(
        self,
        model: Model,
        request: Request,
        kind: str,
        ask: Callable[[Provider, Request], Awaitable[T]],
    ) -> T:
        if model.hedge_after_s is None and model.hedge_percentile is None:
            return await ask(self.inner, request)
        if request.affinity is None:  # both calls see the endpoints in one order, and so different ones first
            request = replace(request, affinity=uuid.uuid4().hex)
        started = self._clock()
        calls = [asyncio.ensure_future(ask(self.inner, request))]
        winner: asyncio.Future[T] | None = None
        try:
            await asyncio.wait(calls, timeout=self.delay_s(model, kind))
            if not calls[0].done():
                calls.append(asyncio.ensure_future(ask(self.second, request)))
            winner = await _first_good(calls)
            result = winner.result()
            # Where the second call won, the first one took longer still: counted like this it stays in the tail.
            self._note(model, kind, self._clock() - started)
            return result
        finally:
            await self._end(calls, winner, request, self._clock() - started)

    def _note(self, model: Model, kind: str, latency_s: float) -> None:
        key = (model.name, kind)
        if key not in self._latencies:
            self._latencies[key] = deque(maxlen=KEPT_LATENCIES)
        self._latencies[key].append(latency_s)

    async def _end(
        self,
        calls: Sequence[asyncio.Future[T]],
        winner: asyncio.Future[T] | None,
        request: Request,
        waited_s: float,
    ) -> None:
        """End every call but the winner and write down what it may have cost.

        The first one of a race without a winner is the caller's own to book.
        """
        losers = [call for call in calls if call is not winner]
        for call in losers:
            call.cancel()
        await asyncio.gather(*losers, return_exceptions=True)
        for call in losers[0 if winner else 1 :]:
            side_call = await _cost_of(call, request, waited_s)
            if side_call is not None and request.side_calls is not None:
                request.side_calls.append(side_call)


def percentile(values: Collection[float], percent: float) -> float | None:
    """The nearest-rank percentile, None of fewer than ENOUGH_LATENCIES values."""
    if len(values) < ENOUGH_LATENCIES:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


async def _first_good(calls: Sequence[asyncio.Future[T]]) -> asyncio.Future[T]:
    """The first call to come back well, else the first one of all."""
    waiting = set(calls)
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for call in calls:
            if call in done and call.exception() is None:
                return call
    return calls[0]


async def _cost_of(call: asyncio.Future[T], request: Request, waited_s: float) -> SideCall | None:
    """What a call that nobody waits for any more may be charged at; None where it was refused."""
    if call.cancelled():
        usage = Usage(prompt_tokens=estimate_prompt_tokens(request), estimated=True)
        return SideCall(usage, waited_s, "hedged: the other call was faster")
    error = call.exception()
    if error is not None:
        if isinstance(error, ProviderError) and isinstance(error.usage, Usage):
            return SideCall(error.usage, waited_s, error.message, error.endpoint)
        return None
    answer = call.result()
    if isinstance(answer, Completion):
        return SideCall(answer.usage, waited_s, "hedged: the other call was faster", answer.endpoint)
    await answer.aclose()
    usage = Usage(prompt_tokens=estimate_prompt_tokens(request), estimated=True)
    return SideCall(usage, waited_s, "hedged: the other call was faster", answer.endpoint)
