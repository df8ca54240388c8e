"""Each equal call is paid for once, or as often as different answers to it are wanted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from typing import Any

from ..catalog.model import Model
from ..errors import ProviderRequestError, RunBooksError
from ..messages import Chunk, Completion, Request, Usage
from ..providers.health import Health, health_of
from ..providers.pool import Pool
from .collection import bounded
from .live_store import LiveStore

FORMAT = 1
"""Part of every key: raised whenever what is hashed or stored changes its shape."""
POLL_S = 0.25
"""How often to look whether another process has the answer by now."""


class RememberingProvider:
    """Answers from the store, and asks `pool` for what is not there.

    The n-th equal call of the run gets answer n modulo `samples`, whichever process makes it. Equal calls for one answer that
    are under way at once share the one that was first, its failure too; a failure is not kept. Calls beside the one that
    answers (hedges) are left out of what a caller is charged: an answer must cost the same whether it was kept or not.
    A caller that no longer waits does not end the call.

    max_output_tokens: of calls that set no limit; None = the model's own. lease_s: how long other processes wait for one
    that asks.
    """

    def __init__(
        self,
        pool: Pool,
        store: LiveStore,
        *,
        samples: int = 1,
        max_output_tokens: int | None = None,
        lease_s: float = 600.0,
    ) -> None:
        self.reused = 0
        self._pool = pool
        self._store = store
        self._samples = samples
        self._max_output_tokens = max_output_tokens
        self._lease_s = lease_s
        self._flights: dict[tuple[bytes, int], asyncio.Task[Completion]] = {}

    def health(self, model: Model) -> Health:
        return health_of(self._pool.provider_of(model), model)

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        """Raises ProviderError and RunStoppedError."""
        if self._max_output_tokens is not None:
            request = bounded(model, request, self._max_output_tokens)
        key = call_key(model, request)
        number, known = await self._store.take(key, self._samples)
        if known is not None:
            self.reused += 1
            return decode(known)
        flight = self._flights.get((key, number))
        if flight is None:
            flight = asyncio.create_task(self._ask(key, number, model, request, timeout_s))
            self._flights[key, number] = flight
            flight.add_done_callback(lambda done: self._landed(key, number, done))
        else:
            self.reused += 1
        return await asyncio.shield(flight)

    def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        raise ProviderRequestError("a run's calls are not streamed", model=model.name)

    async def aclose(self) -> None:
        """Waits for the calls under way: they are paid for."""
        if self._flights:
            await asyncio.wait(list(self._flights.values()))

    def _landed(self, key: bytes, number: int, flight: asyncio.Task[Completion]) -> None:
        if self._flights.get((key, number)) is flight:
            del self._flights[key, number]
        if not flight.cancelled():
            flight.exception()  # seen, even where nobody waits any more

    async def _ask(
        self, key: bytes, number: int, model: Model, request: Request, timeout_s: float | None
    ) -> Completion:
        while (found := await self._store.claim(key, number, self._lease_s)) is not True:
            if isinstance(found, str):
                self.reused += 1
                return decode(found)
            await asyncio.sleep(POLL_S)
        text = None
        try:
            provider = self._pool.provider_of(model)
            completion = await provider.complete(
                model, replace(request, side_calls=None), timeout_s=timeout_s
            )
            text = encode(completion)
        finally:
            await self._store.release(key, number, text)
        return decode(text)


def call_key(model: Model, request: Request) -> bytes:
    """Equal for equal calls only: the model and where it is served, the conversation, every parameter."""
    served = [[place.provider, place.id] for place in model.endpoints]
    parts = [FORMAT, model.name, model.provider, model.id, served, request.messages, request.params]
    return sha256(json.dumps(parts, sort_keys=True, default=_plain).encode()).digest()


def encode(completion: Completion) -> str:
    """All of a completion but `raw`."""
    usage = asdict(completion.usage)
    return json.dumps(
        {
            "message": completion.message,
            "usage": usage,
            "finish_reason": completion.finish_reason,
            "served_model": completion.served_model,
            "latency_s": completion.latency_s,
            "answer": completion.answer,
            "endpoint": completion.endpoint,
        },
        default=_plain,
    )


def decode(text: str) -> Completion:
    """Raises RunBooksError for text that `encode` did not write."""
    try:
        fields = json.loads(text)
        return Completion(**{**fields, "usage": Usage(**fields["usage"])})
    except (ValueError, KeyError, TypeError) as error:
        raise RunBooksError(
            f"a kept answer cannot be read ({type(error).__name__}): name another file under world.cache"
        ) from error


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)
