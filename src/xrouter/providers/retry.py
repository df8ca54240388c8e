"""Retries around any provider.

Backoff with full jitter: the wait before retry n is uniform in [0, min(max_delay, base_delay * 2^n)]
(M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015). A Retry-After is waited out, plus
jitter; one that is longer than `max_delay_s` is not waited for: the error goes up at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TypeVar

from ..catalog.model import Model
from ..deadlines import within
from ..errors import ModelCoolingError, ProviderError, ProviderTimeoutError
from ..messages import Chunk, Completion, Request, SideCall, Usage
from .embedder import EmbeddingRequest, Embeddings, embedder_of
from .health import Health, health_of
from .provider import Provider
from .streams import BlockStream, chunks_of, open_stream

T = TypeVar("T")


class RetryingProvider:
    """Wraps `inner`, a GuardedProvider as a rule; a Provider itself.

    max_retries: attempts after the first, for errors marked retryable. A stream is retried only before its
        first block.
    A caller's own `timeout_s` bounds all attempts and waits of a completion together; of a stream, the wait for each
    block of each attempt.
    sleep, uniform: a wait in seconds, a random number between two bounds.
    """

    def __init__(
        self,
        inner: Provider,
        *,
        max_retries: int = 2,
        base_delay_s: float = 0.25,
        max_delay_s: float = 8.0,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.inner = inner
        self._max_retries = max_retries
        self._base_delay_s = base_delay_s
        self._max_delay_s = max_delay_s
        self._sleep = sleep
        self._uniform = uniform
        self.on_retry: Callable[[str], None] | None = None
        """Told the model's name before each attempt after the first."""

    def __repr__(self) -> str:
        return f"RetryingProvider({self.inner!r})"

    def health(self, model: Model) -> Health:
        return health_of(self.inner, model)

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        """Raises ProviderError once every attempt has failed."""
        return await self._within(
            timeout_s, model, lambda: self.inner.complete(model, request), request.side_calls
        )

    async def embed(
        self, model: Model, request: EmbeddingRequest, *, timeout_s: float | None = None
    ) -> Embeddings:
        """As `complete`; ProviderRequestError where the endpoint is of a kind that gives no embeddings."""
        inner = embedder_of(self.inner, model)
        return await self._within(timeout_s, model, lambda: inner.embed(model, request))

    async def open(self, model: Model, request: Request, *, timeout_s: float | None = None) -> BlockStream:
        """Raises ProviderError once every attempt has failed."""
        return await self._retried(
            model,
            lambda: open_stream(self.inner, model, request, timeout_s=timeout_s),
            request.side_calls,
        )

    def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        """As `open`, piece by piece."""
        return chunks_of(partial(self.open, model, request, timeout_s=timeout_s))

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def _within(
        self,
        timeout_s: float | None,
        model: Model,
        ask: Callable[[], Awaitable[T]],
        side_calls: list[SideCall] | None = None,
    ) -> T:
        if timeout_s is None:
            return await self._retried(model, ask, side_calls)
        try:
            # Not handed down: that a caller is in a hurry does not speak against the endpoint.
            with within(timeout_s):
                return await self._retried(model, ask, side_calls)
        except TimeoutError as error:
            raise ProviderTimeoutError(
                f"model {model.name!r} did not answer within {timeout_s:g} s", model=model.name
            ) from error

    async def _retried(
        self, model: Model, ask: Callable[[], Awaitable[T]], side_calls: list[SideCall] | None
    ) -> T:
        attempt = 0
        while True:
            try:
                return await ask()
            except ProviderError as error:
                delay_s = self._delay_or_raise(model, error, attempt)
                if isinstance(error.usage, Usage) and side_calls is not None:
                    side_calls.append(SideCall(error.usage, 0.0, error.message, error.endpoint))
            await self._sleep(delay_s)
            attempt += 1

    def _delay_or_raise(self, model: Model, error: ProviderError, attempt: int) -> float:
        """Seconds to wait before the next attempt; raises `error` when there is to be none."""
        asked = error.retry_after_s
        waiting = attempt > 0 and isinstance(
            error, ModelCoolingError
        )  # others were told to wait longer meanwhile
        if (
            not (error.retryable or waiting)
            or attempt >= self._max_retries
            or (asked is not None and asked > self._max_delay_s)
            or health_of(self.inner, model).condition == "open"
        ):
            raise error
        if self.on_retry is not None:
            self.on_retry(model.name)
        if asked is not None:
            return asked + self._uniform(0.0, self._base_delay_s)
        return self._uniform(0.0, min(self._max_delay_s, self._base_delay_s * 2.0**attempt))
