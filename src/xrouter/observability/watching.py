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

    Wrappers stay where they are: what a GuardedProvider wraps is watched, so that each attempt, wherever it goes, is
    seen, and its circuits and retries are told. urls: base URL by the provider's name, for spans.
    """

    def watched(name: str, provider: Provider, circuit: Callable[[Model], Circuit] | None = None) -> Provider:
        url = (urls or {}).get(name)
        return WatchedProvider(
            provider, metrics, tracer, circuit=circuit, url=url, capture=capture, redact=redact
        )

    providers: dict[str, Provider] = {}
    for name, provider in pool.providers.items():
        guard = provider.inner if isinstance(provider, RetryingProvider) else provider
        if isinstance(guard, GuardedProvider):  # the pool's routes go through the same guards
            guard.inner = watched(name, guard.inner, guard.circuit_of)
            providers[name] = provider
        else:
            providers[name] = watched(name, provider)
    for retrying in (*providers.values(), *pool.routes.values()):
        if isinstance(retrying, RetryingProvider):
            retrying.on_retry = metrics.retried
    return replace(pool, providers=providers)
