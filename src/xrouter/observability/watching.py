"""A whole pool under watch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ..catalog.model import Model
from ..providers.guard import GuardedProvider
from ..providers.pool import Pool
from ..providers.provider import Provider
from ..providers.retry import RetryingProvider
from .metrics import Circuit, Metrics
from .provider import WatchedProvider
from .redaction import Redact
from .tracing import Tracer


def watch_pool(
    pool: Pool,
    metrics: Metrics,
    tracer: Tracer,
    *,
    urls: Mapping[str, str | None] | None = None,
    capture: bool = False,
    redact: Redact | None = None,
) -> Pool:
    """The same models, every attempt at calling them counted and traced.

    What a GuardedProvider wraps is watched, so that each attempt is seen, and its circuits are told. urls: base URL by
    the provider's name, for spans.
    """

    def watched(name: str, provider: Provider, circuit: Callable[[Model], Circuit] | None = None) -> Provider:
        url = (urls or {}).get(name)
        return WatchedProvider(
            provider, metrics, tracer, circuit=circuit, url=url, capture=capture, redact=redact
        )

    providers: dict[str, Provider] = {}
    for name, provider in pool.providers.items():
        guarded = provider.inner if isinstance(provider, RetryingProvider) else provider
        if isinstance(guarded, GuardedProvider):
            guarded.inner = watched(name, guarded.inner, guarded.circuit_of)
            providers[name] = provider
        else:
            providers[name] = watched(name, provider)
    for retrying in (*pool.providers.values(), *pool.routes.values()):
        if isinstance(retrying, RetryingProvider):
            retrying.on_retry = metrics.retried
    return replace(pool, providers=providers)
