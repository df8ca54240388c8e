"""Bands and pools: who is taken, how often, and what may be called."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from dataset_kit import MODELS, question, recipe_of

from xrouter.catalog.catalog import Catalog
from xrouter.catalog.model import TIERS
from xrouter.errors import ConfigurationError, ModelNotFoundError
from xrouter.settings import Settings
from xrouter.training.dataset.bands import sort_into_bands
from xrouter.training.dataset.gather import Gathered
from xrouter.training.dataset.pools import candidates, draw_pool, short_tiers

BANDS = [
    {"name": "hard", "low": 0, "high": 0.15, "cap": 2},
    {"name": "medium", "low": 0.15, "high": 0.65, "cap": 1},
    {"name": "simple", "low": 0.6, "high": 1},
]
NOTHING = Gathered((), {})


def bands_of(rates: list[float | None], **table: object) -> tuple[Counter[str], dict[str, int]]:
    questions = [question(i) for i in range(len(rates))]
    known = {q.key: rate for q, rate in zip(questions, rates, strict=True) if rate is not None}
    taken, left_out = sort_into_bands(questions, known, recipe_of(bands=BANDS, **table))
    return Counter(one.band.name for one in taken), left_out


def test_edges_belong_to_the_upper_band_and_one_to_the_last() -> None:
    assert bands_of([0.0, 0.1499, 0.15, 1.0])[0] == {"hard": 2, "medium": 1, "simple": 1}


def test_where_bands_overlap_the_first_with_room_takes() -> None:
    assert bands_of([0.62, 0.63])[0] == {"medium": 1, "simple": 1}


def test_what_has_no_room_or_rate_is_left_out_and_counted() -> None:
    found, left_out = bands_of([0.0, 0.0, 0.0, 0.3, 0.4, None])
    assert found == {"hard": 2, "medium": 1}
    assert left_out == {
        "its pass rate is not known": 1,
        "the band 'hard' is full": 1,
        "the band 'medium' is full": 1,
    }


def test_what_is_taken_does_not_depend_on_the_order() -> None:
    recipe = recipe_of(bands=BANDS, seed=4)
    questions = [question(i) for i in range(30)]
    rates = {q.key: 0.0 for q in questions}
    forth, back = (sort_into_bands(order, rates, recipe)[0] for order in (questions, questions[::-1]))
    assert forth == back
    assert sort_into_bands(questions, rates, recipe_of(bands=BANDS, seed=5))[0] != forth


def test_trivial_questions_have_a_band_of_their_own_and_no_bands_take_all() -> None:
    trivial = question(1, trivial=True)
    recipe = recipe_of(bands=[], trivial={"cap": 1})
    taken, left_out = sort_into_bands([trivial, question(2, trivial=True), question(3)], {}, recipe)
    assert Counter(one.band.name for one in taken) == {"trivial": 1, "all": 1}
    assert left_out == {"the band 'trivial' is full": 1}


def test_tiers_are_drawn_within_their_counts_and_every_model_is_used() -> None:
    pools = recipe_of(pools={"tiers": {"premium": [1, 2], "budget": [0, 9]}}).pools
    used: Counter[str] = Counter()
    for seed in range(300):
        drawn = draw_pool(question(1), MODELS, pools, Random(seed))
        assert drawn is not None
        tiers = Counter(model.tier for model in drawn.models)
        assert 1 <= tiers["premium"] <= 2
        assert tiers["budget"] <= 4
        assert 1 <= tiers["standard"] <= 4
        assert tiers["specialised"] <= 3
        assert len(set(drawn.models)) == len(drawn.models)
        used.update(model.name for model in drawn.models)
    assert set(used) == set(MODELS)


def test_order_means_nothing() -> None:
    pools = recipe_of().pools
    firsts = {
        drawn.models[0].tier
        for seed in range(100)
        if (drawn := draw_pool(question(1), MODELS, pools, Random(seed))) is not None
    }
    assert firsts == set(TIERS)


def test_sets_get_their_share() -> None:
    sets = {"two": ["premium-0", "budget-0"], "one": ["standard-1"]}
    pools = recipe_of(pools={"sets": sets, "set_share": 0.5}).pools
    names = Counter()
    for seed in range(400):
        drawn = draw_pool(question(1), MODELS, pools, Random(seed))
        assert drawn is not None
        names[drawn.name] += 1
        if drawn.name in sets:
            assert {model.name for model in drawn.models} == set(sets[drawn.name])
    assert 150 < names["two"] + names["one"] < 250
    assert min(names.values()) > 60


def test_recorded_questions_get_only_the_models_that_were_asked() -> None:
    pools = recipe_of(pools={"models": "outcomes"}).pools
    asked = question(1, recorded=("premium-1", "budget-2"))
    drawn = draw_pool(asked, MODELS, pools, Random(0))
    assert drawn is not None
    assert {model.name for model in drawn.models} == {"premium-1", "budget-2"}
    assert draw_pool(question(1, recorded=("another",)), MODELS, pools, Random(0)) is None


def test_candidates_of_the_catalog_need_no_key_and_no_pretenders() -> None:
    catalog = Catalog.load(Settings())
    found = candidates(recipe_of().pools, NOTHING, Settings(), catalog)
    assert len(found) > 10
    assert all(model.kind == "chat" and not model.simulated for model in found.values())
    assert {model.tier for model in found.values()} == set(TIERS)
    own = Settings(pool=("sim-small", "sim-large"))
    assert set(candidates(recipe_of().pools, NOTHING, own, catalog)) == {"sim-small", "sim-large"}


@pytest.mark.parametrize(
    ("pools", "error", "said"),
    [
        ({"models": "outcomes"}, ConfigurationError, 'pools.models = "outcomes" needs recorded outcomes'),
        ({"models": ["nobody"]}, ModelNotFoundError, "nobody"),
        (
            {"models": ["sim-small"], "sets": {"a": ["sim-large"]}, "set_share": 1},
            ConfigurationError,
            "pools.sets.a names 'sim-large'",
        ),
    ],
)
def test_models_that_are_not_there(pools: dict[str, object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        candidates(recipe_of(pools=pools).pools, NOTHING, Settings(), Catalog.load(Settings()))


def test_tiers_that_cannot_be_filled_are_said() -> None:
    pools = recipe_of().pools
    budget = {name: model for name, model in MODELS.items() if model.tier == "budget"}
    assert short_tiers(pools, MODELS) == []
    assert [line.split()[0] for line in short_tiers(pools, budget)] == [
        "pools.tiers.premium",
        "pools.tiers.standard",
    ]
