"""All that can be seen of one gateway, opened and closed together."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..providers.pool import Pool
from ..providers.provider import Provider
from ..providers.retry import RetryingProvider
from ..settings_tables.observability import ObservabilitySettings
from .build import make_metrics, make_tracer
from .health import Drain
from .logs import RequestLog
from .metrics import Metrics
from .provider import WatchedProvider
from .record import RequestRecord
from .redaction import Redact, load_redaction
from .tracing import Tracer

if TYPE_CHECKING:
    from .prompts import PromptStore


@dataclass(frozen=True, slots=True)
class Observability:
    """prompts: None unless prompts are stored. capture: prompts and answers go into spans, through `redact`."""

    metrics: Metrics
    tracer: Tracer
    log: RequestLog
    prompts: PromptStore | None = None
    redact: Redact | None = None
    capture: bool = False
    drain: Drain = field(default_factory=Drain)

    @classmethod
    def open(
        cls, settings: ObservabilitySettings, *, models: Collection[str], policies: Collection[str] = ()
    ) -> Observability:
        """models, policies: names that may become labels of metrics.

        Raises ConfigurationError for a redaction hook or library that is not there, OSError for a prompt file that
        cannot be opened.
        """
        redact = load_redaction(settings.redact)
        tracer = make_tracer(settings)
        prompts = None
        if settings.store_prompts is not None:
            # File locks are POSIX's: the rest runs without them.
            from .prompts import PromptStore

            prompts = PromptStore(
                settings.store_prompts,
                redact=redact,
                max_bytes=settings.store_max_bytes,
                files=settings.store_files,
            )
        return cls(
            metrics=make_metrics(settings, models=models, policies=policies),
            tracer=tracer,
            log=RequestLog(settings.log),
            prompts=prompts,
            redact=redact,
            capture=settings.capture_content,
        )

    def watch(self, pool: Pool, urls: Mapping[str, str | None]) -> Pool:
        """The same models behind watched providers. urls: base URL by the provider's name, for spans.

        A RetryingProvider stays where it is and its inner provider is replaced, so that each attempt is seen.
        """
        watched: dict[str, Provider] = {}
        for name, provider in pool.providers.items():
            if isinstance(provider, RetryingProvider):
                breaker_of = provider.breaker_of
                provider.inner = WatchedProvider(
                    provider.inner,
                    self.metrics,
                    self.tracer,
                    circuit=lambda model, breaker_of=breaker_of: breaker_of(model).state,  # type: ignore[misc]
                    url=urls.get(name),
                    capture=self.capture,
                    redact=self.redact,
                )
                watched[name] = provider
            else:
                watched[name] = WatchedProvider(
                    provider,
                    self.metrics,
                    self.tracer,
                    url=urls.get(name),
                    capture=self.capture,
                    redact=self.redact,
                )
        return Pool(pool.models, watched, pool.notice)

    def ended(self, record: RequestRecord) -> None:
        """A request is over: count it and log it. The record must not change any more."""
        self.metrics.request_ended(record)
        self.log.write(record)

    async def aclose(self) -> None:
        """Send and write what is left."""
        await self.tracer.aclose()
        if self.prompts is not None:
            await asyncio.to_thread(self.prompts.close)
        await asyncio.to_thread(self.log.close)
