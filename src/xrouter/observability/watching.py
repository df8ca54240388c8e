"""A whole pool under watch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

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

    A RetryingProvider stays where it is: what it wraps is watched, so that each attempt and retry is seen, and its
    circuits are told. urls: base URL by the provider's name, for spans.
    """

    def watched(name: str, provider: Provider, circuit: Callable[[str], Circuit] | None = None) -> Provider:
        url = (urls or {}).get(name)
        return WatchedProvider(
            provider, metrics, tracer, circuit=circuit, url=url, capture=capture, redact=redact
        )

    providers: dict[str, Provider] = {}
    for name, provider in pool.providers.items():
        if isinstance(provider, RetryingProvider):
            provider.inner = watched(name, provider.inner, provider.circuit_of)
            provider.on_retry = metrics.retried
            providers[name] = provider
        else:
            providers[name] = watched(name, provider)
    return replace(pool, providers=providers)
