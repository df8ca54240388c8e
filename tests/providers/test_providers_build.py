from __future__ import annotations

from dataclasses import replace

import pytest

from xrouter.catalog.catalog import Catalog
from xrouter.errors import ConfigurationError, ModelNotFoundError
from xrouter.messages import Request
from xrouter.providers import local
from xrouter.providers.build import build_pool
from xrouter.providers.retry import RetryingProvider
from xrouter.settings import Endpoint, Settings
from xrouter.settings_tables.upstream import UpstreamSettings


@pytest.fixture
def no_local(monkeypatch):
    monkeypatch.setattr(local, "missing", lambda model: "nothing is installed")


@pytest.fixture
def with_local(monkeypatch):
    monkeypatch.setattr(local, "missing", lambda model: None)


async def test_without_anything_the_pool_is_simulated_and_says_so(no_local):
    pool = build_pool(Settings(), Catalog.load(), {})
    assert all(model.simulated for model in pool)
    assert pool.notice is not None
    assert pool.notice.startswith("SIMULATED")
    completion = await pool.provider_of(pool["sim-large"]).complete(
        pool["sim-large"], Request.from_text("What is 1 + 1?")
    )
    assert completion.text.startswith("[simulated]")
    await pool.aclose()


def test_local_models_alone(with_local):
    pool = build_pool(Settings(), Catalog.load(), {})
    assert [model.name for model in pool] == ["smollm2-135m", "smollm2-135m-steps", "smollm2-135m-vote"]
    assert pool.reference.name == "smollm2-135m-vote"
    assert pool.notice is not None
    assert "OPENAI_API_KEY" in pool.notice


def test_a_key_brings_its_current_models(no_local):
    pool = build_pool(Settings(), Catalog.load(), {"OPENAI_API_KEY": "sk-x", "GROQ_API_KEY": " "})
    assert {model.provider for model in pool} == {"openai"}
    assert "gpt-5-mini" in pool
    assert "gpt-3.5-turbo-0125" not in pool
    assert pool.notice is None
    assert all(isinstance(provider, RetryingProvider) for provider in pool.providers.values())


def test_the_key_shows_nowhere(no_local):
    pool = build_pool(Settings(), Catalog.load(), {"OPENAI_API_KEY": "sk-secret"})
    assert "sk-secret" not in repr(pool)


def test_an_explicit_pool_may_name_retired_models(no_local):
    settings = Settings(pool=("gpt-4o-2024-08-06", "sim-small"))
    pool = build_pool(settings, Catalog.load(), {"OPENAI_API_KEY": "sk-x"})
    assert [model.name for model in pool] == ["gpt-4o-2024-08-06", "sim-small"]
    assert pool.notice is not None
    assert "sim-small" in pool.notice


def test_an_explicit_pool_names_what_is_missing(no_local):
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        build_pool(Settings(pool=("gpt-5-mini",)), Catalog.load(), {})
    with pytest.raises(ConfigurationError, match="nothing is installed"):
        build_pool(Settings(pool=("smollm2-135m",)), Catalog.load(), {})
    with pytest.raises(ModelNotFoundError, match="gpt-5-mini"):
        build_pool(Settings(pool=("gpt-5-mni",)), Catalog.load(), {})


def test_a_keyless_endpoint_of_the_users_own_joins(no_local):
    settings = Settings(
        endpoints={"ollama": Endpoint("http://127.0.0.1:11434/v1"), "any": Endpoint(kind="litellm")},
        models={
            "mine": {
                "provider": "ollama",
                "tier": "budget",
                "context_window": 8192,
                "price": {"input": "0", "output": "0"},
            },
            "bedrock": {
                "provider": "any",
                "id": "bedrock/x",
                "tier": "premium",
                "context_window": 8192,
                "price": {"input": "1", "output": "1"},
            },
        },
    )
    pool = build_pool(settings, Catalog.load(settings), {})
    assert [model.name for model in pool] == ["mine", "bedrock"]


def test_embedding_models_stand_beside_the_pool(no_local):
    env = {"OPENAI_API_KEY": "sk-x"}
    pool = build_pool(Settings(), Catalog.load(), env)
    assert "text-embedding-3-small" not in pool
    assert pool.embedder("text-embedding-3-small").kind == "embedding"
    assert pool.restricted_to(["gpt-5-mini"]).embedders == pool.embedders
    with pytest.raises(ModelNotFoundError, match="text-embedding-3-small"):
        pool.embedder("gpt-5-mini")
    named = build_pool(Settings(pool=("gpt-5-mini",)), Catalog.load(), env)
    assert named.embedders == ()
    both = build_pool(Settings(pool=("gpt-5-mini", "text-embedding-3-large")), Catalog.load(), env)
    assert [model.name for model in both] == ["gpt-5-mini"]
    assert [model.name for model in both.embedders] == ["text-embedding-3-large"]


def test_an_embedding_model_at_several_endpoints_gets_a_route(no_local):
    vectors = {"kind": "embedding", "endpoints": [{"provider": "a"}, {"provider": "b"}]}
    settings = settings_for(m={"provider": "a"}, vectors=vectors)
    pool = build_pool(settings, Catalog.load(settings), {})
    assert set(pool.providers) == {"a", "b"}
    assert type(pool.provider_of(pool.embedder("vectors")).inner).__name__ == "BalancedProvider"
    assert pool.restricted_to(["m"]).provider_of(pool.embedder("vectors")) is pool.routes["vectors"]
    with pytest.raises(ConfigurationError, match="'vectors', which is not in the pool"):
        build_pool(replace(settings, fallbacks={"m": ("vectors",)}), Catalog.load(settings), {})


BOX = {"tier": "budget", "context_window": 8192, "price": {"input": "0", "output": "0"}}
BOXES = {name: Endpoint(f"http://127.0.0.1:1/{name}") for name in ("a", "b")}


def settings_for(**models):
    return Settings(endpoints=BOXES, models={name: {**BOX, **table} for name, table in models.items()})


def test_models_get_the_wrappers_they_ask_for(no_local):
    both = [{"provider": "a"}, {"provider": "b"}]
    settings = settings_for(
        plain={"provider": "a"},
        spread={"endpoints": both},
        hedged={"provider": "a", "hedge_after_s": 1},
        all={"endpoints": both, "hedge": "p95"},
    )
    pool = build_pool(settings, Catalog.load(settings), {})
    shapes = {}
    for model in pool:
        kinds, provider = [], pool.provider_of(model)
        while provider is not None:
            kinds.append(type(provider).__name__.removesuffix("Provider"))
            provider = getattr(provider, "inner", None)
        shapes[model.name] = kinds
    assert shapes == {
        "plain": ["Retrying", "Guarded", "OpenAI"],
        "spread": ["Retrying", "Balanced"],
        "hedged": ["Retrying", "Hedged", "Guarded", "OpenAI"],
        "all": ["Retrying", "Hedged", "Balanced"],
    }
    assert set(pool.providers) == {"a", "b"}
    assert pool.healthy_names() == ("plain", "spread", "hedged", "all")
    assert pool.restricted_to(["spread"]).provider_of(pool["spread"]) is pool.provider_of(pool["spread"])


def test_every_endpoint_of_a_model_needs_its_key(no_local):
    endpoints = {**BOXES, "b": Endpoint("http://127.0.0.1:1", key_env="B_KEY")}
    table = {**BOX, "endpoints": [{"provider": "a"}, {"provider": "b"}]}
    settings = Settings(endpoints=endpoints, models={"m": table}, pool=("m",))
    with pytest.raises(ConfigurationError, match="B_KEY is not set"):
        build_pool(settings, Catalog.load(settings), {})
    assert "m" in build_pool(settings, Catalog.load(settings), {"B_KEY": "k"})


def test_fallbacks_are_checked_against_the_pool(no_local):
    settings = replace(settings_for(m={"provider": "a"}), fallbacks={"m": ("absent",)})
    with pytest.raises(ConfigurationError, match="'absent', which is not in the pool"):
        build_pool(settings, Catalog.load(settings), {})


def test_the_upstream_table_reaches_the_providers(no_local):
    upstream = UpstreamSettings(transport="native", breaker_failures=1)
    settings = replace(settings_for(m={"provider": "a"}), upstream=upstream)
    pool = build_pool(settings, Catalog.load(settings), {})
    guard = pool.providers["a"].inner
    assert type(guard.inner._transport).__name__ == "NativeTransport"
    assert guard._breaker_failures == 1
    settings = replace(settings, upstream=replace(upstream, proxies_from_env=True))
    provider = build_pool(settings, Catalog.load(settings), {}).providers["a"].inner.inner
    assert type(provider._transport).__name__ == "AiohttpTransport"
