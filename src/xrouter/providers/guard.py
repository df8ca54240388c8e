"""One attempt at a call, guarded: a limit on concurrency, a time-out, a circuit breaker, a cool-down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TypeVar

from ..catalog.model import Model
from ..deadlines import within
from ..errors import (
    CircuitOpenError,
    ModelCoolingError,
    ProviderError,
    ProviderRateLimitError,
    ProviderResponseError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from ..messages import Chunk, Completion, Request
from .breaker import CircuitBreaker, Permit, State
from .embedder import EmbeddingRequest, Embeddings, embedder_of
from .health import OK, Health
from .provider import Provider
from .streams import BlockProvider, BlockStream, chunks_of, open_stream

T = TypeVar("T")

_AGAINST_THE_ENDPOINT = (ProviderTimeoutError, ProviderUnavailableError, ProviderResponseError)

NEVER = float("-inf")


class _Line:
    """What is known of one model at one endpoint."""

    __slots__ = ("breaker", "cool_until", "loop", "refusals", "slots")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.breaker = breaker
        self.cool_until = NEVER
        self.refusals = 0
        self.slots: asyncio.Semaphore | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    @property
    def untroubled(self) -> bool:
        """Whether no clock need be looked at to say that it is well."""
        return self.cool_until == NEVER and self.breaker.closed


class GuardedProvider:
    """Wraps `inner`; a Provider itself. Models are told apart by name and id.

    call_timeout_s: bound on one attempt (for a stream: on the wait for each block).
    max_concurrency_per_model: calls of one model under way at once; the rest queue, as long as a call may take.
    breaker_failures, breaker_reset_s: after so many failures of a model in a row its calls fail at once with
        CircuitOpenError; so many seconds later one probe goes through. Time-outs, unavailability and unreadable
        answers count; rate limits and refused requests do not.
    cooldown_s, max_cooldown_s: after a rate limit a model is left alone for as long as its Retry-After says, at
        most `max_cooldown_s` seconds; calls fail at once with ModelCoolingError meanwhile. Without a Retry-After
        it is `cooldown_s`, doubled with each further refusal in a row. 0 turns it off.
    clock: seconds, monotonic.
    """

    def __init__(
        self,
        inner: Provider,
        *,
        call_timeout_s: float = 120.0,
        max_concurrency_per_model: int = 16,
        breaker_failures: int = 5,
        breaker_reset_s: float = 30.0,
        cooldown_s: float = 1.0,
        max_cooldown_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inner = inner
        self._call_timeout_s = call_timeout_s
        self._max_concurrency = max_concurrency_per_model
        self._breaker_failures = breaker_failures
        self._breaker_reset_s = breaker_reset_s
        self._cooldown_s = cooldown_s
        self._max_cooldown_s = max_cooldown_s
        self._clock = clock
        self._lines: dict[tuple[str, str], _Line] = {}
        self._keeps_time = isinstance(inner, BlockProvider)

    def __repr__(self) -> str:
        return f"GuardedProvider({self.inner!r})"

    def health(self, model: Model) -> Health:
        line = self._lines.get((model.name, model.id))
        if line is None or line.untroubled:
            return OK
        if line.breaker.state == "open":
            return Health("open", line.breaker.reopens_in_s)
        cool_s = line.cool_until - self._clock()
        return Health("cooling", cool_s) if cool_s > 0 else OK

    def breaker_of(self, model: Model) -> CircuitBreaker:
        """The circuit of one model."""
        return self._line(model).breaker

    def circuit_of(self, model: Model) -> State:
        """The state of its circuit: closed, half_open or open."""
        return self._line(model).breaker.state

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        """Raises ProviderError."""
        return await self._guarded(
            model, lambda limit_s: self.inner.complete(model, request, timeout_s=limit_s), timeout_s
        )

    async def embed(
        self, model: Model, request: EmbeddingRequest, *, timeout_s: float | None = None
    ) -> Embeddings:
        """Raises ProviderError; ProviderRequestError where the endpoint is of a kind that gives no embeddings."""
        inner = embedder_of(self.inner, model)
        return await self._guarded(
            model, lambda limit_s: inner.embed(model, request, timeout_s=limit_s), timeout_s
        )

    async def open(self, model: Model, request: Request, *, timeout_s: float | None = None) -> BlockStream:
        """Raises ProviderError. The slot is held until the stream is over."""
        limit_s = self._limit(timeout_s)
        line = self._line(model)
        slots = await self._slot(line, model, limit_s)
        try:
            permit = self._enter(line, model)
            try:
                opened = await open_stream(self.inner, model, request, timeout_s=limit_s)
            except BaseException as error:
                self._report(line, permit, error)
                raise
        except BaseException:
            slots.release()
            raise

        def ended(error: BaseException | None) -> None:
            slots.release()
            self._report(line, permit, error)

        opened.when_over(ended)
        return opened

    def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        """As `open`, piece by piece."""
        return chunks_of(partial(self.open, model, request, timeout_s=timeout_s))

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def _guarded(
        self, model: Model, ask: Callable[[float], Awaitable[T]], timeout_s: float | None
    ) -> T:
        limit_s = self._limit(timeout_s)
        line = self._line(model)
        slots = await self._slot(line, model, limit_s)
        try:
            permit = self._enter(line, model)
            try:
                answer = await (ask(limit_s) if self._keeps_time else self._timed(model, ask, limit_s))
            except BaseException as error:
                self._report(line, permit, error)
                raise
            line.refusals = 0
            line.breaker.succeed(permit)
            return answer
        finally:
            slots.release()

    def _limit(self, timeout_s: float | None) -> float:
        return self._call_timeout_s if timeout_s is None else min(timeout_s, self._call_timeout_s)

    def _line(self, model: Model) -> _Line:
        line = self._lines.get((model.name, model.id))
        if line is None:
            breaker = CircuitBreaker(self._breaker_failures, self._breaker_reset_s, self._clock)
            line = self._lines[model.name, model.id] = _Line(breaker)
        return line

    async def _timed(self, model: Model, ask: Callable[[float], Awaitable[T]], limit_s: float) -> T:
        try:
            with within(limit_s):
                return await ask(limit_s)
        except TimeoutError as error:
            raise ProviderTimeoutError(
                f"model {model.name!r} did not answer within {limit_s:g} s", model=model.name
            ) from error

    async def _slot(self, line: _Line, model: Model, limit_s: float) -> asyncio.Semaphore:
        """One of the model's slots, waited for at most `limit_s` seconds."""
        loop = asyncio.get_running_loop()
        if line.slots is None or line.loop is not loop:  # a semaphore belongs to one loop
            line.slots, line.loop = asyncio.Semaphore(self._max_concurrency), loop
        slots = line.slots
        if not slots.locked():
            await slots.acquire()
            return slots
        try:
            with within(limit_s):
                await slots.acquire()
        except TimeoutError as error:
            raise ProviderTimeoutError(
                f"model {model.name!r} had no free slot within {limit_s:g} s;"
                f" max_concurrency_per_model is {self._max_concurrency}",
                model=model.name,
            ) from error
        return slots

    def _enter(self, line: _Line, model: Model) -> Permit:
        cool_s = line.cool_until - self._clock()
        if cool_s > 0:
            raise ModelCoolingError(
                f"model {model.name!r} gets too many requests and is left alone for another {cool_s:.1f} s",
                model=model.name,
                retry_after_s=cool_s,
            )
        permit = line.breaker.enter()
        if permit is None:
            wait_s = line.breaker.reopens_in_s
            raise CircuitOpenError(
                f"model {model.name!r} failed {self._breaker_failures} times in a row and is left alone for"
                f" another {wait_s:.1f} s",
                model=model.name,
                retry_after_s=wait_s,
            )
        return permit

    def _report(self, line: _Line, permit: Permit, error: BaseException | None) -> None:
        """What the end of a call says of the endpoint."""
        if isinstance(error, _AGAINST_THE_ENDPOINT):
            line.breaker.fail(permit)
        elif error is None or isinstance(error, ProviderError):
            line.breaker.succeed(permit)
        else:
            line.breaker.release(permit)
        if isinstance(error, ProviderRateLimitError):
            self._cool(line, error)
        elif error is None:
            line.refusals = 0

    def _cool(self, line: _Line, error: ProviderRateLimitError) -> None:
        wait_s = error.retry_after_s
        if wait_s is None:
            if not self._cooldown_s:
                return
            wait_s = error.retry_after_s = min(
                self._cooldown_s * 2.0 ** min(line.refusals, 16), self._max_cooldown_s
            )
        line.refusals += 1
        until = self._clock() + min(wait_s, self._max_cooldown_s)
        line.cool_until = max(line.cool_until, until)
