"""What a gateway answers with: one of each, opened from the settings and closed together."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial

from ..accounts.gate import Gate
from ..accounts.memory import MemoryAccounts
from ..accounts.store import AccountStore
from ..caching.cache import Cache
from ..guardrails.guardrails import Guardrails
from ..observability.build import make_metrics, make_tracer
from ..observability.health import Drain
from ..observability.logs import RequestLog
from ..observability.metrics import Metrics
from ..observability.prompts import PromptStore
from ..observability.redaction import load_redaction
from ..observability.tracing import SilentTracer, Tracer
from ..observability.watching import watch_pool
from ..policies.named import Named
from ..policies.policy import PaidPolicy
from ..providers.pool import Pool
from ..router import Router
from ..state.memory import MemoryState
from ..state.state import State
from .auth import admin_key, keys_are_required
from .sessions import Sessions


@dataclass
class Services:
    """accounts and state are closed with the gateway; the router closes pool and ledger itself."""

    router: Router
    accounts: AccountStore
    state: State
    gate: Gate
    sessions: Sessions
    cache: Cache
    guardrails: Guardrails
    log: RequestLog
    metrics: Metrics = field(default_factory=Metrics)
    tracer: Tracer = field(default_factory=SilentTracer)
    prompts: PromptStore | None = None
    admin_key: str | None = None
    drain: Drain = field(default_factory=Drain)

    async def aclose(self) -> None:
        """Whatever is under way is ended and booked first."""
        await self.router.aclose()
        await self.accounts.aclose()
        await self.state.aclose()
        await self.tracer.aclose()
        if self.prompts is not None:
            self.prompts.close()
        self.log.close()


def open_services(
    router: Router,
    *,
    accounts: AccountStore | None = None,
    state: State | None = None,
    host: str | None = None,
) -> Services:
    """host: the address listened on, which decides whether keys are needed; default: the settings' own.

    Raises ConfigurationError.
    """
    settings = router.settings
    accounts = MemoryAccounts() if accounts is None else accounts
    state = MemoryState() if state is None else state
    seen = settings.observability
    policy = router.policy
    deciding = policy if isinstance(policy, PaidPolicy) else None
    asked = [*router.pool, *router.pool.embedders, *([deciding.model] if deciding else [])]
    metrics = make_metrics(
        seen,
        models=[*policy_names(router), *(model.name for model in asked)],
        policies=[router.policy.name, Named(()).name],
    )
    tracer = make_tracer(seen)
    redact = load_redaction(seen.redact)
    if seen.metrics:
        router.on_decided, router.on_committed = metrics.decided, metrics.ledger_committed
    if seen.metrics or seen.tracing:
        watched = partial(
            watch_pool, metrics=metrics, tracer=tracer, capture=seen.capture_content, redact=redact
        )
        router.pool = watched(router.pool)
        if deciding is not None:
            alone = Pool((deciding.model,), {deciding.model.provider: deciding.provider})
            deciding.provider = watched(alone).provider_of(deciding.model)
    access = settings.access
    return Services(
        router=router,
        accounts=accounts,
        state=state,
        gate=Gate(
            accounts,
            router.ledger,
            state,
            access,
            require_keys=keys_are_required(settings.host if host is None else host, access),
            request_timeout_s=settings.request_timeout_s,
        ),
        sessions=Sessions(state),
        cache=Cache(settings.cache, state),
        guardrails=Guardrails.load(settings.guardrails),
        log=RequestLog(seen.log),
        metrics=metrics,
        tracer=tracer,
        prompts=None
        if seen.store_prompts is None
        else PromptStore(
            seen.store_prompts,
            redact=redact,
            max_bytes=seen.store_max_bytes,
            files=seen.store_files,
        ),
        admin_key=admin_key(access, os.environ),
    )


def policy_names(router: Router) -> Collection[str]:
    """The names under which the policy can be asked for."""
    return ["xrouter", *(f"xrouter:{preset}" for preset in router.settings.presets)]
