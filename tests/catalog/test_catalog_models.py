from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import date
from decimal import Decimal

import pytest

from xrouter.catalog.catalog import Catalog
from xrouter.catalog.model import TIERS
from xrouter.catalog.price import dearest
from xrouter.catalog.published_prices import published_price
from xrouter.errors import ConfigurationError, ModelNotFoundError, UnknownPriceError
from xrouter.messages import Usage
from xrouter.settings import Settings

LOCAL = {
    "provider": "box",
    "tier": "budget",
    "context_window": 8192,
    "price": {"input": "0", "output": "0.1"},
}


def with_models(**models: dict[str, object]) -> Catalog:
    from xrouter.settings import Endpoint

    return Catalog.load(Settings(models=models, endpoints={"box": Endpoint("http://127.0.0.1:1/v1")}))


def test_every_packaged_model_is_whole():
    models = list(Catalog.load())
    assert len(models) >= 30
    assert set(Counter(model.tier for model in models)) == set(TIERS)
    for model in models:
        assert model.price.rates.input > 0, model.name
        assert (model.price.rates.output > 0) == (model.kind == "chat"), model.name
        assert model.price.source, model.name
        assert date(2023, 1, 1) < model.price.dated, model.name
        assert model.description, model.name
        assert 0 < model.max_output_tokens <= model.context_window, model.name
        assert (model.capability is not None) == (model.kind == "chat"), model.name


def test_only_simulated_models_say_so():
    for model in Catalog.load():
        assert model.simulated == (model.provider == "simulated")


def test_loading_reads_no_price_data():
    code = (
        "import sys; from xrouter.catalog.catalog import Catalog; Catalog.load()['smollm2-135m'];"
        "sys.exit('genai_prices' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd="/").returncode == 0


def test_unknown_model_names_close_ones():
    with pytest.raises(ModelNotFoundError, match="gpt-5-mini"):
        Catalog.load()["gpt-5-minni"]


def test_override_of_one_field_keeps_the_rest():
    catalog = with_models(**{"gpt-5-mini": {"tier": "premium"}})
    changed, original = catalog["gpt-5-mini"], Catalog.load()["gpt-5-mini"]
    assert changed.tier == "premium"
    assert changed.price == original.price
    assert changed.context_window == original.context_window


def test_override_of_a_price():
    price = {
        "input": "1",
        "output": "2",
        "cached_input": "0.5",
        "tiers": [{"above_prompt_tokens": 10, "input": "3", "output": "4"}],
        "dated": date(2026, 1, 2),
        "source": "contract",
    }
    model = with_models(**{"gpt-5-mini": {"price": price}})["gpt-5-mini"]
    assert (model.price.dated, model.price.source) == (date(2026, 1, 2), "contract")
    assert model.price.cost(Usage(10, 10, cached_tokens=4)) == Decimal("0.000028")
    assert model.price.cost(Usage(11, 10)) == Decimal("0.000073")


def test_a_model_of_the_users_own():
    model = with_models(mine=LOCAL)["mine"]
    assert (model.id, model.provider, model.max_output_tokens) == ("mine", "box", 4096)
    assert model.price.cost(Usage(1000, 1000)) == Decimal("0.0001")
    assert not model.simulated


def without(key: str) -> dict[str, object]:
    return {k: v for k, v in LOCAL.items() if k != key}


@pytest.mark.parametrize(
    ("table", "error", "words"),
    [
        (without("price"), UnknownPriceError, ["mine", "price", "input and output"]),
        ({**LOCAL, "price": {"input": "1"}}, UnknownPriceError, ["price", "output"]),
        ({**LOCAL, "price": "genai-prices:openai/nope-9"}, UnknownPriceError, ["mine", "openai/nope-9"]),
        ({**LOCAL, "price": "genai-prices:perplexity/sonar-pro"}, UnknownPriceError, ["each request"]),
        ({**LOCAL, "price": "free"}, ConfigurationError, ["price", "free"]),
        ({**LOCAL, "price": {"input": 1.5, "output": "1"}}, ConfigurationError, ["price.input", "1.5"]),
        ({**LOCAL, "price": {"input": "-1", "output": "1"}}, ConfigurationError, ["price.input", "-1"]),
        ({**LOCAL, "price": {"input": "NaN", "output": "1"}}, ConfigurationError, ["price.input"]),
        (without("provider"), ConfigurationError, ["provider"]),
        ({**LOCAL, "provider": "bx"}, ConfigurationError, ["bx", "did you mean 'box'"]),
        ({**LOCAL, "tier": "top"}, ConfigurationError, ["models.mine.tier", "top", "premium"]),
        ({**LOCAL, "context": 4}, ConfigurationError, ["models.mine.context", "context_window"]),
        ({**LOCAL, "capability": 2}, ConfigurationError, ["capability", "2"]),
        ({**LOCAL, "modalities": ["smell"]}, ConfigurationError, ["modalities", "smell"]),
    ],
)
def test_a_mistake_shows_at_load(table, error, words):
    with pytest.raises(error) as caught:
        with_models(mine=table)
    for word in words:
        assert word in str(caught.value)


def test_published_prices_agree_with_their_own_calculator():
    import genai_prices

    for reference, prompt, cached, output in [
        ("openai/gpt-4o", 1000, 200, 500),
        ("google/gemini-2.5-pro", 200_000, 0, 10),
        ("google/gemini-2.5-pro", 200_001, 100, 10),
    ]:
        provider, model = reference.split("/")
        usage = genai_prices.Usage(input_tokens=prompt, cache_read_tokens=cached, output_tokens=output)
        theirs = genai_prices.calc_price(usage, model, provider_id=provider).total_price
        assert published_price("m", reference).cost(Usage(prompt, output, cached)) == theirs


def test_a_price_that_depends_on_the_hour_is_taken_at_its_dearest():
    price = published_price("m", "deepseek/deepseek-chat")
    assert price.rates.input == Decimal("0.27")


def test_a_price_that_starts_later_does_not_hold_yet():
    before = published_price("m", "google/gemini-4-argon", date(2026, 11, 21))
    after = published_price("m", "google/gemini-4-argon", date(2026, 12, 1))
    assert before.rates.output < after.rates.output
    assert before.dated <= date(2026, 11, 21)


def test_an_embedding_model_needs_no_price_of_output():
    table = {
        "kind": "embedding",
        "provider": "box",
        "tier": "budget",
        "context_window": 512,
        "price": {"input": "0.01"},
    }
    model = with_models(mine=table)["mine"]
    assert model.kind == "embedding"
    assert model.price.rates.output == 0
    with pytest.raises(UnknownPriceError, match="output"):
        with_models(mine={**table, "kind": "chat"})
    with pytest.raises(ConfigurationError, match="kind"):
        with_models(mine={**table, "kind": "speech"})
    for hedge in ({"hedge": "p95"}, {"hedge_after_s": 1}):
        with pytest.raises(ConfigurationError, match="not hedged"):
            with_models(mine={**table, **hedge})


def test_an_embedding_model_at_several_endpoints():
    places = [{"provider": "box"}, {"provider": "box", "name": "dear", "price": {"input": "0.02"}}]
    table = {"kind": "embedding", "tier": "budget", "context_window": 512, "price": {"input": "0.01"}}
    model = with_models(mine={**table, "endpoints": places})["mine"]
    assert [place.price.rates.input for place in model.endpoints] == [Decimal("0.01"), Decimal("0.02")]
    assert model.price.rates.output == 0
    assert model.at(model.endpoints[1]).kind == "embedding"


TWO = {
    **LOCAL,
    "id": "shared-id",
    "endpoints": [
        {"provider": "box", "weight": 3},
        {"provider": "box", "name": "box-2", "id": "other", "price": {"input": "5", "output": "0"}},
    ],
}


def test_a_model_at_several_endpoints():
    model = with_models(mine=TWO)["mine"]
    first, second = model.endpoints
    assert (first.name, first.provider, first.id, first.weight) == ("box", "box", "shared-id", 3.0)
    assert (second.name, second.provider, second.id, second.weight) == ("box-2", "box", "other", 1.0)
    assert (model.provider, model.id) == ("box", "shared-id")
    usage = Usage(1_000_000, 1_000_000)
    assert model.price_at("box").cost(usage) == Decimal("0.1")
    assert model.price_at("box-2").cost(usage) == Decimal(5)
    assert model.price_at(None).cost(usage) == Decimal("5.1"), "not known: never counted too low"
    assert model.price.cost(usage) == Decimal("5.1")
    at = model.at(second)
    assert (at.name, at.id, at.price.rates.input, at.endpoints) == ("mine", "other", 5, ())


def test_the_dearest_price_is_nowhere_too_low():
    flat = with_models(mine=LOCAL)["mine"].price
    tiered = {
        "input": "1",
        "output": "0.05",
        "cached_input": "0.2",
        "tiers": [{"above_prompt_tokens": 1000, "input": "3", "output": "2"}],
    }
    other = with_models(mine={**LOCAL, "price": tiered})["mine"].price
    top = dearest([flat, other])
    for usage in (Usage(10, 10), Usage(1000, 10, 1000), Usage(1001, 10), Usage(5000, 500, 4000, 300)):
        assert top.cost(usage) >= max(flat.cost(usage), other.cost(usage))
    assert dearest([flat, flat]) is flat


def test_endpoints_need_no_provider_of_the_models_own():
    table = {key: value for key, value in TWO.items() if key not in ("provider", "id")}
    model = with_models(mine=table)["mine"]
    assert (model.provider, model.id) == ("box", "mine")


@pytest.mark.parametrize(
    ("endpoints", "words"),
    [
        ([], "a non-empty list of tables"),
        ("box", "a non-empty list of tables"),
        ([{"weight": 1}], r"endpoints\[0\] lacks provider"),
        ([{"provider": "box", "weight": 0}], r"endpoints\[0\]\.weight must be a number above 0"),
        ([{"provider": "box", "wieght": 1}], "did you mean 'weight'"),
        ([{"provider": "box"}, {"provider": "box"}], "second endpoint called 'box'"),
        ([{"provider": "bxo"}], "'bxo', which is no endpoint; did you mean 'box'"),
    ],
)
def test_a_mistake_in_endpoints_is_named(endpoints, words):
    with pytest.raises(ConfigurationError, match=words):
        with_models(mine={**LOCAL, "endpoints": endpoints})


def test_hedging_is_read():
    assert with_models(mine={**LOCAL, "hedge_after_s": 1.5})["mine"].hedge_after_s == 1.5
    assert with_models(mine={**LOCAL, "hedge": "p95"})["mine"].hedge_percentile == 95.0
    for wrong in ("95", "p100", "p12", 95):
        with pytest.raises(ConfigurationError, match="p95"):
            with_models(mine={**LOCAL, "hedge": wrong})
    with pytest.raises(ConfigurationError, match="keep one"):
        with_models(mine={**LOCAL, "hedge": "p95", "hedge_after_s": 1})
