from __future__ import annotations

import numpy as np
import pytest
from outcomes_kit import kit_states

from xrouter.policies.cascade import AgreementCascade, BestCascade, cascade_table, fit_cascade

PRICES = {"a": 1.0, "b": 2.0, "c": 40.0, "d": 30.0}
CASCADE = AgreementCascade("a", "b", "c")


def decided(states, policy=CASCADE):
    choices = policy.decide(policy.encode(["any"]), states)
    names = [m.name for m in states.models]
    select = int(choices.select_B[0])
    return [n for n, c in zip(names, choices.call_BM[0], strict=True) if c], None if select < 0 else names[
        select
    ]


def test_the_two_are_asked_at_once():
    assert decided(kit_states(PRICES)) == (["a", "b"], None)


def test_agreement_ends_the_episode_without_the_third():
    states = kit_states(PRICES, turns_left=2, responded=["a", "b"], answers={"a": 0, "b": 0})
    assert decided(states) == ([], "a")


@pytest.mark.parametrize(
    "answers", [{"a": 0, "b": 1}, {"a": 0}, {}], ids=["differ", "one unread", "none read"]
)
def test_anything_but_agreement_asks_the_third_and_takes_it(answers):
    states = kit_states(PRICES, turns_left=2, responded=["a", "b"], answers=answers)
    assert decided(states) == (["c"], None)
    states = kit_states(PRICES, turns_left=1, responded=["a", "b", "c"], answers=answers)
    assert decided(states) == ([], "c")


def test_the_last_turn_asks_nobody_once_there_is_a_response():
    states = kit_states(PRICES, turns_left=1, responded=["a", "b"], answers={"a": 0, "b": 1})
    assert decided(states) == ([], "a")


def test_a_single_turn_asks_the_third_alone():
    assert decided(kit_states(PRICES, turns_left=1)) == (["c"], None)


def test_a_missing_model_is_replaced_by_the_nearest_in_price():
    assert decided(kit_states(PRICES, allowed=["b", "c", "d"])) == (["b"], None)  # a's place is b's too
    states = kit_states(
        PRICES, allowed=["a", "b", "d"], turns_left=2, responded=["a", "b"], answers={"a": 0, "b": 1}
    )
    assert decided(states) == (["d"], None)


def test_failed_calls_lead_on_and_what_came_back_is_handed_over():
    assert decided(kit_states(PRICES, turns_left=2, failed=["a", "b"])) == (["c"], None)
    states = kit_states(PRICES, turns_left=1, failed=["a", "c"], responded=["b"], answers={"b": 0})
    assert decided(states) == ([], "b")
    assert decided(kit_states(PRICES, turns_left=1, failed=["a", "b", "c"])) == (["d"], None)


def brute_force(score, cost, answer, triple):
    first, second, third = triple
    total_score = total_cost = 0.0
    for q in range(len(score)):
        agree = answer[q, first] >= 0 and answer[q, first] == answer[q, second]
        total_score += score[q, first] if agree else score[q, third]
        total_cost += cost[q, first] + cost[q, second] + (0 if agree else cost[q, third])
    return total_score / len(score), total_cost / len(score)


def recorded(queries=40, models=5, seed=0):
    rng = np.random.default_rng(seed)
    answer = rng.integers(-1, 2, (queries, models))
    score = (answer == 1).astype(float)
    return score, rng.random((queries, models)), answer, np.ones((queries, models), bool)


def test_the_table_holds_every_triple_as_played_one_by_one():
    score, cost, answer, present = recorded()
    table = cascade_table(score, cost, answer, present)
    for triple in np.ndindex(5, 5, 5):
        if len(set(triple)) < 3:
            assert table.score_NNN[triple] == -np.inf
        else:
            expected = brute_force(score, cost, answer, triple)
            assert (table.score_NNN[triple], table.cost_NNN[triple]) == pytest.approx(expected)


@pytest.mark.parametrize("weight", [0.0, 0.3, 5.0])
def test_the_fit_is_the_best_of_all_triples(weight):
    score, cost, answer, present = recorded(seed=1)
    values = {
        t: np.subtract(*(np.array(brute_force(score, cost, answer, t)) * [1, weight / 0.5]))
        for t in np.ndindex(5, 5, 5)
        if len(set(t)) == 3
    }
    triple = fit_cascade(score, cost, answer, present, weight, reference_cost=0.5)
    assert values[triple] == pytest.approx(max(values.values()))


def test_a_model_that_answered_a_part_only_is_left_out_and_few_models_give_none():
    score, cost, answer, present = recorded()
    present[:20, 2] = False
    assert 2 not in fit_cascade(score, cost, answer, present, 0.0, 1.0)
    assert fit_cascade(score[:, :2], cost[:, :2], answer[:, :2], present[:, :2], 0.0, 1.0) is None


def test_the_best_cascade_follows_lambda_and_the_pool():
    score, cost, answer, present = recorded()
    names = ("a", "b", "c", "d", "e")
    policy = BestCascade.fit(names, score, cost, answer, present, 1.0)
    prices = dict.fromkeys(names, 1.0)
    for weight in (0.0, 9.0):
        first, second, _ = policy.table.best(weight, 1.0)
        expected = {names[first], names[second]}
        assert set(decided(kit_states(prices, cost_weight=weight), policy)[0]) == expected
    without = decided(kit_states(prices, allowed=["a", "b", "c"]), policy)[0]
    assert len(without) == 2
    assert set(without) <= {"a", "b", "c"}
    one = decided(kit_states(prices, allowed=["d"]), policy)
    assert one == (["d"], None)
    assert decided(kit_states({"new": 1.0}), policy) == (["new"], None)
