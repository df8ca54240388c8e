from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from conftest import make_model

from xrouter.catalog.model import Model
from xrouter.catalog.price import Price, Rates
from xrouter.policies.profiles import (
    CAP_DEVIATIONS,
    LEAST_SPREAD,
    MAX_CHANCE,
    MIN_CHANCE,
    Profiles,
    descriptors,
    shrunk_spread,
)

PROFILES = Profiles(
    names=("small", "large"),
    skill_ND=np.array([[0.4, 0.1], [0.7, 0.2]], np.float32),
    tokens_ND=np.array([[np.log(100.0), 0.0], [np.log(200.0), np.log(2.0)]], np.float32),
    tokens_scale_N=np.array([1.0, 1.5], np.float32),
    tokens_spread_N=np.array([0.5, 0.5], np.float32),
    prompt_N2=np.array([[0.0, 1.0], [0.0, 1.0]], np.float32),
    typical_D=np.array([1.0, 0.5], np.float32),
    typical_prompt_tokens=1000.0,
    descriptor_weights=np.array([0.5, 0.0, 0.05, 0.1], np.float32),
    same_2D=np.array([[0.2, 0.1], [1.0, 0.5]], np.float32),
    loadings_NE=np.array([[1.0, 0.5], [2.0, 0.0]], np.float32),
)
TEXT_1D = np.array([[1.0, 1.0]])


def priced(name: str, usd_in: str, usd_out: str, **fields: Any) -> Model:
    price = Price(Rates(Decimal(usd_in), Decimal(usd_out)), date(2026, 1, 1), "tests")
    return make_model(name, price=price, **fields)


SMALL, LARGE = priced("small", "1", "2"), priced("large", "5", "10")


def test_a_measured_model_is_found_by_name_or_by_its_providers_id() -> None:
    pool = PROFILES.of_pool([LARGE, priced("alias", "1", "2", id="small"), priced("stranger", "1", "2")])
    assert pool.known_M.tolist() == [True, True, False]
    np.testing.assert_allclose(pool.skill_MD[:2], [[0.7, 0.2], [0.4, 0.1]])
    np.testing.assert_allclose(pool.chance_BM(TEXT_1D)[0, :2], [0.9, 0.5], atol=1e-6)


def test_its_own_name_goes_before_its_providers_id() -> None:
    pool = PROFILES.of_pool([priced("small", "1", "2", id="large")])
    np.testing.assert_allclose(pool.skill_MD, [[0.4, 0.1]])


def test_an_unmeasured_model_has_its_stated_capability_on_a_typical_query() -> None:
    pool = PROFILES.of_pool([priced("a", "1", "2", capability=0.9), priced("b", "1", "2", capability=0.3)])
    np.testing.assert_allclose(pool.chance_BM(PROFILES.typical_D[None])[0], [0.9, 0.3], atol=1e-6)
    easier = pool.chance_BM(np.array([[1.0, 0.9]]))[0]
    assert (easier >= [0.9, 0.3]).all(), "the average profile still tells easy queries from hard ones"
    assert easier[1] > 0.3


@pytest.mark.parametrize(("stated", "used"), [(0.0, 0.05), (1.0, 0.97)])
def test_a_stated_capability_is_never_certain(stated: float, used: float) -> None:
    assert PROFILES.expected_skill(make_model("new", capability=stated)) == pytest.approx(used)


def test_without_a_stated_capability_price_and_reasoning_are_the_guess() -> None:
    cheap, dear = priced("c", "0.1", "0.2"), priced("d", "10", "40")
    assert PROFILES.expected_skill(cheap) < PROFILES.expected_skill(dear)
    expected = 0.5 + 0.05 * np.log(40.01)
    assert PROFILES.expected_skill(dear) == pytest.approx(expected, abs=1e-5)
    thinking = replace(dear, reasoning=True)
    assert PROFILES.expected_skill(thinking) == pytest.approx(expected + 0.1, abs=1e-5)
    assert np.isfinite(descriptors(priced("free", "0", "0"))).all()


def test_an_unmeasured_reasoning_model_is_expected_to_write_more() -> None:
    plain, thinking = make_model("p", capability=0.5), make_model("r", capability=0.5, reasoning=True)
    tokens = PROFILES.of_pool([plain, thinking]).tokens_BM(TEXT_1D)[0]
    assert tokens[1] > tokens[0] > 0


def test_a_price_change_moves_the_cost_and_nothing_else() -> None:
    before = PROFILES.of_pool([SMALL, LARGE])
    after = PROFILES.of_pool([SMALL, priced("large", "10", "20")])
    np.testing.assert_array_equal(before.chance_BM(TEXT_1D), after.chance_BM(TEXT_1D))
    np.testing.assert_array_equal(before.tokens_BM(TEXT_1D), after.tokens_BM(TEXT_1D))
    tokens, prompt = before.tokens_BM(TEXT_1D), np.array([500.0])
    np.testing.assert_allclose(after.cost_BM(tokens, prompt) / before.cost_BM(tokens, prompt), [[1.0, 2.0]])


def test_the_cost_of_a_call_worked_by_hand() -> None:
    pool = PROFILES.of_pool([SMALL, LARGE])
    tokens = pool.tokens_BM(TEXT_1D)
    np.testing.assert_allclose(tokens, [[100.0, 1.5 * 400.0]], rtol=1e-5)
    # 1,000 prompt tokens: 1000 * 1 + 100 * 2 and 1000 * 5 + 600 * 10 millionths of a dollar.
    np.testing.assert_allclose(pool.cost_BM(tokens, np.array([1000.0])), [[0.0012, 0.011]], rtol=1e-5)


def test_the_reference_is_what_a_typical_query_costs_at_the_most_skilled_model() -> None:
    # large, typical features (1, 0.5): 1.5 * 200 * 2 ** 0.5 output tokens and 1,000 prompt tokens.
    expected = (1000 * 5 + 1.5 * 200 * np.sqrt(2.0) * 10) / 1e6
    assert PROFILES.of_pool([SMALL, LARGE]).reference_cost == pytest.approx(expected, rel=1e-5)
    small_alone = PROFILES.of_pool([SMALL]).reference_cost
    assert small_alone == pytest.approx((1000 * 1 + 100 * 2) / 1e6, rel=1e-5)


def test_a_free_pool_still_has_a_unit_of_cost() -> None:
    assert PROFILES.of_pool([priced("small", "0", "0")]).reference_cost > 0


def test_chances_stay_within_bounds_on_absurd_features() -> None:
    pool = PROFILES.of_pool([SMALL, LARGE])
    chances = pool.chance_BM(np.array([[1.0, 1e6], [1.0, -1e6]]))
    np.testing.assert_allclose(chances, [[MAX_CHANCE] * 2, [MIN_CHANCE] * 2])
    assert np.isfinite(pool.tokens_BM(np.array([[1.0, 1e6], [1.0, -1e6]]))).all()


def test_rates_of_agreement_are_probabilities() -> None:
    pool = PROFILES.of_pool([SMALL])
    np.testing.assert_allclose(pool.same_B2(TEXT_1D), [[0.3, 1.0]], atol=1e-6)
    np.testing.assert_allclose(pool.same_B2(-4 * TEXT_1D), [[0.0, 0.0]])


def test_an_unmeasured_models_lengths_spread_as_the_others_do() -> None:
    profiles = replace(PROFILES, tokens_spread_N=np.array([0.3, 0.9], np.float32))
    pool = profiles.of_pool([LARGE, priced("stranger", "1", "2")])
    np.testing.assert_allclose(pool.tokens_spread_M, [0.9, np.sqrt((0.09 + 0.81) / 2)], rtol=1e-6)
    common = (0.09 + 0.81) / 2
    np.testing.assert_allclose(
        pool.cap_margin_M, np.exp(CAP_DEVIATIONS * np.sqrt([(0.81 + common) / 2, common])), rtol=1e-6
    )


def test_lengths_are_log_normal_around_what_is_expected() -> None:
    pool = replace(PROFILES, tokens_spread_N=np.array([0.5, 1.0], np.float32)).of_pool([SMALL, LARGE])
    expected = np.full((200_000, 2), 300.0)
    drawn = 300.0 * np.exp(
        pool.tokens_spread_M * np.random.default_rng(0).standard_normal(expected.shape)
        - pool.tokens_spread_M**2 / 2
    )
    np.testing.assert_allclose(drawn.mean(0), 300.0, rtol=0.02)
    for quantile in (0.1, 0.5, 0.9, 0.99):
        below = (drawn <= pool.tokens_quantile_BM(expected, quantile)).mean(0)
        np.testing.assert_allclose(below, quantile, atol=0.01)


def test_a_spread_from_few_answers_is_drawn_to_the_common_one() -> None:
    many = shrunk_spread(np.array([0.16 * 100_000]), np.array([100_000]), 1.0)
    np.testing.assert_allclose(many, 0.4, atol=0.001)
    few = shrunk_spread(np.array([0.16 * 2, 0.0]), np.array([2, 0]), 1.0)
    assert 0.95 < few[0] < 1.0
    assert few[1] == 1.0
    assert shrunk_spread(0.0, 100_000, 1.0) == LEAST_SPREAD
