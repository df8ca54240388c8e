"""Time-outs, retries, a circuit breaker and a limit on concurrency, around any provider.

Backoff with full jitter: the wait before retry n is uniform in [0, min(max_delay, base_delay * 2^n)]
(M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015). A Retry-After is waited out, plus
jitter; one that is longer than `max_delay_s` is not waited for: the error goes up at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TypeVar

from ..catalog.model import Model
from ..errors import (
    CircuitOpenError,
    ProviderError,
    ProviderResponseError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from ..messages import Chunk, Completion, Request
from .breaker import CircuitBreaker, State
from .embedder import EmbeddingRequest, Embeddings, embedder_of
from .provider import Provider

T = TypeVar("T")

_AGAINST_THE_ENDPOINT = (ProviderTimeoutError, ProviderUnavailableError, ProviderResponseError)


class RetryingProvider:
    """Wraps `inner`; a Provider itself.

    max_retries: attempts after the first, for errors marked retryable. A stream is retried only before its
        first chunk.
    call_timeout_s: bound on one attempt (for a stream: on the wait for each chunk). A caller's own `timeout_s`
        bounds all attempts, waits and queueing of a completion together.
    max_concurrency_per_model: calls of one model under way at once; the rest queue.
    breaker_failures, breaker_reset_s: after so many failures of a model in a row its calls fail at once with
        ProviderUnavailableError; so many seconds later one probe goes through. Time-outs, unavailability and
        unreadable answers count; rate limits and refused requests do not.
    clock, sleep, uniform: seconds, a wait in seconds, a random number between two bounds.
    """

    def __init__(
        self,
        inner: Provider,
        *,
        max_retries: int = 2,
        call_timeout_s: float = 120.0,
        max_concurrency_per_model: int = 16,
        breaker_failures: int = 5,
        breaker_reset_s: float = 30.0,
        base_delay_s: float = 0.25,
        max_delay_s: float = 8.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.inner = inner
        self._max_retries = max_retries
        self._call_timeout_s = call_timeout_s
        self._max_concurrency = max_concurrency_per_model
        self._breaker_failures = breaker_failures
        self._breaker_reset_s = breaker_reset_s
        self._base_delay_s = base_delay_s
        self._max_delay_s = max_delay_s
        self._clock = clock
        self._sleep = sleep
        self._uniform = uniform
        self._breakers: dict[str, CircuitBreaker] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.on_retry: Callable[[str], None] | None = None
        """Told the model's name before each attempt after the first."""

    def __repr__(self) -> str:
        return f"RetryingProvider({self.inner!r})"

    def breaker_of(self, model: str) -> CircuitBreaker:
        """The circuit of one model, by the pool's name for it."""
        if model not in self._breakers:
            self._breakers[model] = CircuitBreaker(self._breaker_failures, self._breaker_reset_s, self._clock)
        return self._breakers[model]

    def circuit_of(self, model: str) -> State:
        """The state of its circuit: closed, half_open or open."""
        return self.breaker_of(model).state

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        return await self._retried(
            model, lambda limit_s: self.inner.complete(model, request, timeout_s=limit_s), timeout_s
        )

    async def embed(
        self, model: Model, request: EmbeddingRequest, *, timeout_s: float | None = None
    ) -> Embeddings:
        """Raises ProviderRequestError where the endpoint is of a kind that gives no embeddings."""
        inner = embedder_of(self.inner, model)
        return await self._retried(
            model, lambda limit_s: inner.embed(model, request, timeout_s=limit_s), timeout_s
        )

    async def _retried(
        self, model: Model, ask: Callable[[float], Awaitable[T]], timeout_s: float | None
    ) -> T:
        try:
            async with asyncio.timeout(timeout_s):
                attempt = 0
                while True:
                    try:
                        return await self._attempt(model, ask)
                    except ProviderError as error:
                        await self._sleep(self._delay_or_raise(model, error, attempt))
                        attempt += 1
        except TimeoutError as error:
            raise self._timed_out(model, timeout_s) from error

    async def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        limit = self._call_timeout_s if timeout_s is None else min(timeout_s, self._call_timeout_s)
        attempt = 0
        while True:
            begun = False
            try:
                async with aclosing(self._stream_once(model, request, limit)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
                return
            except ProviderError as error:
                if begun:
                    raise
                delay = self._delay_or_raise(model, error, attempt)
            await self._sleep(delay)
            attempt += 1

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def _attempt(self, model: Model, ask: Callable[[float], Awaitable[T]]) -> T:
        async with self._turn(model, self._call_timeout_s):
            with self._guarded(model):
                try:
                    async with asyncio.timeout(self._call_timeout_s):
                        return await ask(self._call_timeout_s)
                except TimeoutError as error:
                    raise self._timed_out(model, self._call_timeout_s) from error

    async def _stream_once(
        self, model: Model, request: Request, limit_s: float
    ) -> AsyncGenerator[Chunk, None]:
        async with self._turn(model, limit_s):
            with self._guarded(model):
                chunks = self.inner.stream(model, request, timeout_s=limit_s)
                try:
                    while True:
                        try:
                            async with asyncio.timeout(limit_s):
                                chunk = await anext(chunks)
                        except StopAsyncIteration:
                            return
                        except TimeoutError as error:
                            raise self._timed_out(model, limit_s) from error
                        yield chunk
                finally:
                    aclose = getattr(chunks, "aclose", None)
                    if aclose is not None:
                        await aclose()

    @contextmanager
    def _guarded(self, model: Model) -> Iterator[None]:
        """One call under the model's circuit breaker."""
        breaker = self.breaker_of(model.name)
        permit = breaker.enter()
        if permit is None:
            wait_s = breaker.reopens_in_s
            raise CircuitOpenError(
                f"model {model.name!r} failed {self._breaker_failures} times in a row and is left alone for"
                f" another {wait_s:.1f} s",
                model=model.name,
                retry_after_s=wait_s,
            )
        try:
            yield
        except _AGAINST_THE_ENDPOINT:
            breaker.fail(permit)
            raise
        except ProviderError:
            breaker.succeed(permit)
            raise
        except BaseException:
            breaker.release(permit)
            raise
        breaker.succeed(permit)

    @asynccontextmanager
    async def _turn(self, model: Model, limit_s: float) -> AsyncIterator[None]:
        """One of the model's slots, waited for at most `limit_s` seconds."""
        slot = self._slot(model.name)
        try:
            async with asyncio.timeout(limit_s):
                await slot.acquire()
        except TimeoutError as error:
            raise ProviderTimeoutError(
                f"model {model.name!r} had no free slot within {limit_s:g} s;"
                f" max_concurrency_per_model is {self._max_concurrency}",
                model=model.name,
            ) from error
        try:
            yield
        finally:
            slot.release()

    def _slot(self, model: str) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # semaphores belong to one loop
            self._loop, self._slots = loop, {}
        if model not in self._slots:
            self._slots[model] = asyncio.Semaphore(self._max_concurrency)
        return self._slots[model]

    def _delay_or_raise(self, model: Model, error: ProviderError, attempt: int) -> float:
        """Seconds to wait before the next attempt; raises `error` when there is to be none."""
        asked = error.retry_after_s
        if (
            not error.retryable
            or attempt >= self._max_retries
            or (asked is not None and asked > self._max_delay_s)
            or self.breaker_of(model.name).state == "open"
        ):
            raise error
        if self.on_retry is not None:
            self.on_retry(model.name)
        if asked is not None:
            return asked + self._uniform(0.0, self._base_delay_s)
        return self._uniform(0.0, min(self._max_delay_s, self._base_delay_s * 2.0**attempt))

    def _timed_out(self, model: Model, limit_s: float | None) -> ProviderTimeoutError:
        limit = "in time" if limit_s is None else f"within {limit_s:g} s"
        return ProviderTimeoutError(f"model {model.name!r} did not answer {limit}", model=model.name)
