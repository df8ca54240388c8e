"""Settings -> the language model that routes: where it is, what it costs, and the policy around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..catalog.catalog import Catalog
from ..catalog.entry import read_entry
from ..catalog.model import Model
from ..errors import ConfigurationError, UnknownPriceError
from ..providers.build import endpoint_provider
from ..settings import Endpoint, Settings
from ..settings_tables.router_llm import RouterLLMSettings
from ..toml_reader import Reader, nearest
from .tool_calling import ToolCallingPolicy

ENDPOINT = "router_llm"
"""What errors, ledgers and spans call an endpoint that is given by its URL alone."""


def tool_calling_policy(
    settings: Settings, pool: Sequence[Model], env: Mapping[str, str]
) -> ToolCallingPolicy:
    """The policy of [router_llm].

    Raises ConfigurationError where the model, its endpoint, its key or `fallback_model` is missing, and
    UnknownPriceError where nobody knows its price.
    """
    options = settings.router_llm
    if options.model is None:
        raise ConfigurationError(
            "the policy tool-calling needs a model that decides: set router_llm.model (--router-model) and, unless "
            "the catalog knows it, router_llm.url (--router-url)",
            param="router_llm.model",
        )
    names = [model.name for model in pool]
    if options.fallback_model is not None and options.fallback_model not in names:
        raise ConfigurationError(
            f"router_llm.fallback_model = {options.fallback_model!r} is not in the pool"
            f"{nearest(options.fallback_model, names)} (it has {', '.join(names)})",
            param="router_llm.fallback_model",
        )
    catalog = Catalog.load(settings)
    model, endpoint = router_model(settings, catalog), router_endpoint(settings, catalog, env)
    provider = endpoint_provider(
        model.provider, endpoint, settings, env, max_concurrency=options.max_concurrency
    )
    return ToolCallingPolicy(provider, model, options)


def router_model(settings: Settings, catalog: Catalog) -> Model:
    """The catalog's model of that name, or one made of what [router_llm] says; it costs what the table says, else what
    the catalog says. Raises UnknownPriceError."""
    options = settings.router_llm
    name = options.model or ""
    known = catalog[name] if name in catalog.entries else None
    if known is not None and options.price is None:
        return known if options.url is None else replace(known, provider=ENDPOINT, endpoints=())
    if options.price is None:
        raise UnknownPriceError(
            f"the price of the model that decides, {name!r}, is not known: set router_llm.price = "
            '{ input = "0.05", output = "0.10" } in USD per million tokens (--router-price 0.05/0.10; '
            "0/0 for a free one)",
            param="router_llm.price",
        )
    made = priced_model(name, options, str(settings.file or "settings"))
    if known is None:
        return made
    provider = known.provider if options.url is None else ENDPOINT
    return replace(known, price=made.price, provider=provider, endpoints=())


def priced_model(name: str, options: RouterLLMSettings, said_in: str = "settings") -> Model:
    """A model that only [router_llm] tells of. Raises ConfigurationError for a price that cannot be read."""
    table: dict[str, Any] = {
        "provider": ENDPOINT,
        "tier": "specialised",
        "context_window": options.context_window,
        "max_output_tokens": options.max_tokens,
        "price": options.price,
    }
    return read_entry(Reader(said_in, table, ENDPOINT), name, default_source=said_in).model("openai")


def router_endpoint(settings: Settings, catalog: Catalog, env: Mapping[str, str]) -> Endpoint:
    """Raises ConfigurationError where there is no endpoint for the model, or its key is not set."""
    options = settings.router_llm
    if options.url is not None:
        endpoint = Endpoint(base_url=options.url, key_env=options.key_env)
    elif options.model in catalog:
        endpoint = catalog.endpoint_of(options.model or "")
        if options.key_env is not None:
            endpoint = replace(endpoint, key_env=options.key_env)
    else:
        raise ConfigurationError(
            f"router_llm.model = {options.model!r} is not in the catalog{nearest(options.model or '', catalog.entries)}: "
            "say where it is served with router_llm.url (--router-url)",
            param="router_llm.url",
        )
    if endpoint.key_env and not env.get(endpoint.key_env, "").strip():
        raise ConfigurationError(
            f"the model that decides needs the key in {endpoint.key_env}, which is not set",
            param="router_llm.key_env",
        )
    return endpoint
