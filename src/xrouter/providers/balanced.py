"""One model at several endpoints: chosen by weight, sticky for a session, the next one where one fails."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from ..catalog.model import Model, ModelEndpoint
from ..errors import (
    CircuitOpenError,
    ConfigurationError,
    ModelCoolingError,
    ProviderAuthError,
    ProviderError,
)
from ..messages import Chunk, Completion, Request, SideCall, Usage
from .embedder import EmbeddingRequest, Embeddings, embedder_of
from .health import Health, health_of
from .provider import Provider
from .streams import BlockStream, chunks_of, open_stream
from .weights import ranked

T = TypeVar("T")

_ENDPOINT_ALONE = (CircuitOpenError, ModelCoolingError, ProviderAuthError)
"""Not to be retried at the same endpoint; another one may well answer."""


class BalancedProvider:
    """A Provider for models that name endpoints; `providers` are the endpoints' own, by name, as a rule guarded.

    Endpoints that are not well are left out; where none is, the one that is back first is asked, and says so. A call that fails before its first byte, in a way
    that may not fail elsewhere, goes to the next endpoint at once; the last error goes up.
    skip: how many of the first endpoints in the order to put at its end; a hedged second call skips one.
    draw: random numbers from [0, 1).
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        *,
        skip: int = 0,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._providers = providers
        self._skip = skip
        self._draw = draw
        self._models: dict[tuple[str, str], Model] = {}

    def __repr__(self) -> str:
        return f"BalancedProvider({', '.join(self._providers)})"

    def health(self, model: Model) -> Health:
        """The best of its endpoints; where none is ok, that of the one that is back first."""
        states = [self._health(model, endpoint) for endpoint in _endpoints(model)]
        return min(states, key=lambda health: (not health.ok, health.back_in_s))

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        """Raises the last endpoint's ProviderError; its `endpoint` names it."""

        async def ask(provider: Provider, at: Model) -> Completion:
            return await provider.complete(at, request, timeout_s=timeout_s)

        completion, endpoint = await self._first_good(model, ask, request.affinity, request.side_calls)
        return replace(completion, endpoint=endpoint)

    async def embed(
        self, model: Model, request: EmbeddingRequest, *, timeout_s: float | None = None
    ) -> Embeddings:
        """As `complete`; ProviderRequestError where the endpoint is of a kind that gives no embeddings."""

        async def ask(provider: Provider, at: Model) -> Embeddings:
            return await embedder_of(provider, at).embed(at, request, timeout_s=timeout_s)

        embeddings, endpoint = await self._first_good(model, ask)
        return replace(embeddings, endpoint=endpoint)

    async def open(self, model: Model, request: Request, *, timeout_s: float | None = None) -> BlockStream:
        """As `complete`; once the first block has come, nobody else is asked."""

        async def ask(provider: Provider, at: Model) -> BlockStream:
            return await open_stream(provider, at, request, timeout_s=timeout_s)

        opened, endpoint = await self._first_good(model, ask, request.affinity, request.side_calls)
        opened.endpoint = endpoint
        return opened

    def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        """As `open`, piece by piece."""
        return chunks_of(partial(self.open, model, request, timeout_s=timeout_s))

    async def aclose(self) -> None:
        for provider in self._providers.values():
            await provider.aclose()

    async def _first_good(
        self,
        model: Model,
        ask: Callable[[Provider, Model], Awaitable[T]],
        affinity: str | None = None,
        side_calls: list[SideCall] | None = None,
    ) -> tuple[T, str]:
        order = self._order(model, affinity)
        for left, endpoint in zip(range(len(order) - 1, -1, -1), order, strict=True):
            try:
                answer = await ask(self._providers[endpoint.provider], self._at(model, endpoint))
                return answer, endpoint.name
            except ProviderError as error:
                error.endpoint = endpoint.name
                if not left or not (error.retryable or isinstance(error, _ENDPOINT_ALONE)):
                    raise
                if isinstance(error.usage, Usage) and side_calls is not None:
                    side_calls.append(SideCall(error.usage, 0.0, error.message, endpoint.name))
        raise AssertionError("a model has at least one endpoint")

    def _order(self, model: Model, affinity: str | None) -> list[ModelEndpoint]:
        order = ranked(_endpoints(model), affinity, self._draw)
        turned = order[self._skip :] + order[: self._skip]
        well = [endpoint for endpoint in turned if self._health(model, endpoint).ok]
        return well or [min(turned, key=lambda endpoint: self._health(model, endpoint).back_in_s)]

    def _health(self, model: Model, endpoint: ModelEndpoint) -> Health:
        return health_of(self._providers[endpoint.provider], self._at(model, endpoint))

    def _at(self, model: Model, endpoint: ModelEndpoint) -> Model:
        key = (model.name, endpoint.name)
        if key not in self._models:
            self._models[key] = model.at(endpoint)
        return self._models[key]


def _endpoints(model: Model) -> tuple[ModelEndpoint, ...]:
    if not model.endpoints:
        raise ConfigurationError(
            f"model {model.name!r} names no endpoints to choose from; add models.{model.name}.endpoints",
            param=f"models.{model.name}.endpoints",
        )
    return model.endpoints
