from __future__ import annotations

import numpy as np
import pytest
from outcomes_kit import kit_states

from xrouter.policies.baselines import Cheapest, RandomModel, SingleModel, StaticBest, baseline

PRICES = {"small": 1.0, "middle": 4.0, "large": 40.0}


def called(policy, states, query="any"):
    choices = policy.decide(policy.encode([query]), states)
    assert np.isnan(choices.confidence_B).all()
    return [m.name for m, c in zip(states.models, choices.call_BM[0], strict=True) if c], int(
        choices.select_B[0]
    )


def test_a_single_model_is_asked_and_its_answer_is_handed_over():
    assert called(SingleModel("middle"), kit_states(PRICES)) == (["middle"], -1)
    assert called(SingleModel("middle"), kit_states(PRICES, responded=["middle"], turns_left=2)) == ([], 1)


def test_a_single_model_that_may_not_be_called_is_replaced_by_the_nearest_in_price():
    assert called(SingleModel("middle"), kit_states(PRICES, allowed=["small", "large"])) == (["small"], -1)
    assert called(SingleModel("middle"), kit_states(PRICES, failed=["middle"])) == (["small"], -1)


def test_a_single_model_the_pool_does_not_know_is_replaced_by_the_dearest():
    assert called(SingleModel("elsewhere"), kit_states(PRICES)) == (["large"], -1)


def test_cheapest_goes_by_list_price_among_the_callable():
    assert called(Cheapest(), kit_states(PRICES)) == (["small"], -1)
    assert called(Cheapest(), kit_states(PRICES, allowed=["large", "middle"])) == (["middle"], -1)


def test_nothing_callable_is_no_call_and_no_answer():
    assert called(Cheapest(), kit_states(PRICES, allowed=[])) == ([], -1)
    assert called(RandomModel(), kit_states(PRICES, allowed=[])) == ([], -1)


def test_random_is_the_same_for_a_seed_and_query_and_uses_every_model():
    queries = [f"question {i}" for i in range(300)]
    picks = [called(RandomModel(1), kit_states(PRICES), query)[0][0] for query in queries]
    assert picks == [called(RandomModel(1), kit_states(PRICES), query)[0][0] for query in queries]
    assert picks != [called(RandomModel(2), kit_states(PRICES), query)[0][0] for query in queries]
    assert min(picks.count(name) for name in PRICES) > 60
    assert called(RandomModel(1), kit_states(PRICES, allowed=["large"]))[0] == ["large"]


def static():
    return StaticBest(("large", "small"), 10.0, np.array([0.9, 0.6]), np.array([10.0, 1.0]))


def test_static_best_trades_mean_score_for_mean_cost():
    # Worth the step from 0.6 to 0.9 up to lambda = 0.3 / 0.9.
    assert called(static(), kit_states(PRICES, cost_weight=0.33))[0] == ["large"]
    assert called(static(), kit_states(PRICES, cost_weight=0.34))[0] == ["small"]


def test_static_best_leaves_a_model_it_was_not_fitted_on_for_last():
    assert called(static(), kit_states(PRICES, allowed=["small", "middle"]))[0] == ["small"]
    assert called(static(), kit_states(PRICES, allowed=["middle"]))[0] == ["middle"]


@pytest.mark.parametrize("name", ["cheapest", "random", "large"])
def test_baselines_by_name(name):
    policy = baseline(name)
    assert policy.name == name
    assert called(policy, kit_states({"large": 1.0}))[0] == ["large"]
