"""Every metric against an example worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from xrouter.evaluation.bootstrap import interval, resampled_means, resamples
from xrouter.evaluation.metrics import area, best_model, failures, frontier, reliability, saving
from xrouter.evaluation.oracle import oracle_choices


def a(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def test_best_is_the_highest_train_score_of_a_model_that_answered_nearly_all():
    assert best_model(a(0.5, 0.7, 0.9), a(1.0, 1.0, 0.3)) == 1
    assert best_model(a(0.5, 0.7), a(0.2, 0.1)) == 0  # nobody did: the one that answered most


def test_frontier_drops_points_that_another_beats_at_no_more_cost():
    score, cost = a(0.9, 0.5, 0.6, 0.6, 0.4), a(10, 1, 3, 2, 2)
    assert frontier(score, cost).tolist() == [1, 3, 0]


def test_saving_is_against_best_at_the_cheapest_point_that_reaches_the_share():
    score, cost = a(0.99, 0.97, 0.80), a(8, 3, 1)
    assert saving(score, cost, a(1.0)[0], a(10)[0], 95) == pytest.approx(0.7)  # 0.97 at 3 of 10
    assert saving(score, cost, a(1.0)[0], a(10)[0], 98) == pytest.approx(0.2)
    assert np.isnan(saving(score, cost, a(1.0)[0], a(10)[0], 100))


def test_saving_holds_on_the_threshold_itself_and_may_be_negative():
    assert saving(a(0.95 * 0.3), a(1), a(0.3)[0], a(2)[0], 95) == pytest.approx(0.5)
    assert saving(a(0.9), a(30), a(0.9)[0], a(10)[0], 100) == pytest.approx(-2.0)


def test_saving_against_a_free_best_does_not_exist():
    assert np.isnan(saving(a(1.0), a(0.0), a(1.0)[0], a(0.0)[0], 95))


def test_area_is_the_mean_of_the_affordable_score_over_log_spaced_budgets():
    # Three budgets from 1 to 100: 1, 10, 100. Affordable: nothing, 0.5, 0.9.
    assert area(a(0.5, 0.9), a(5, 100), a(1)[0], a(100)[0], budgets=3) == pytest.approx((0 + 0.5 + 0.9) / 3)


def test_area_of_the_cheapest_model_alone_is_its_score():
    assert area(a(0.4), a(0.003), a(0.003)[0], a(7.7)[0]) == pytest.approx(0.4)


def test_area_of_best_alone_is_one_budget_of_fifty():
    assert area(a(0.8), a(7.7), a(0.003)[0], a(7.7)[0]) == pytest.approx(0.8 / 50)


def test_area_where_the_cheapest_model_is_free():
    assert area(a(0.4, 0.8), a(0, 1), a(0)[0], a(1)[0], budgets=3) == pytest.approx((0.4 + 0.4 + 0.8) / 3)


def test_area_and_saving_work_on_resamples_as_on_the_figure():
    score, cost = np.array([[0.5, 0.9], [0.4, 0.8]]), np.array([[1.0, 10.0], [1.0, 10.0]])
    both = area(score, cost, a(1, 1), a(10, 10))
    assert both.tolist() == pytest.approx(
        [float(area(score[i], cost[i], a(1)[0], a(10)[0])) for i in range(2)]
    )
    assert saving(score, cost, a(0.5, 0.8), a(10, 10), 100).tolist() == pytest.approx([0.9, 0.0])


def test_calibration_error_weighs_each_bin_by_its_answers():
    # Bin 0.9-1.0: three answers, confidence 0.95, score 2/3. Bin 0.2-0.3: one answer, 0.25, right.
    bins = reliability(a(0.95, 0.95, 0.95, 0.25), a(1, 1, 0, 1))
    assert bins.count.tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0, 3]
    assert bins.error == pytest.approx((3 * (0.95 - 2 / 3) + 1 * 0.75) / 4)
    assert np.isnan(bins.score[0])


def test_calibration_leaves_out_what_states_no_confidence_and_takes_certainty():
    bins = reliability(a(np.nan, 1.0), a(0, 1))
    assert bins.count.sum() == 1
    assert bins.error == 0.0
    assert np.isnan(reliability(a(np.nan), a(1)).error)


def test_failures_share_out_the_wrong_answers():
    score = np.array([[1, 0], [1, 0], [0, 1], [0, 0], [0, np.nan]])
    called = np.array([[True, False], [False, True], [True, True], [True, True], [True, False]])
    found = failures(score, called, np.array([0, 1, 0, 0, -1]))
    assert found.recall == pytest.approx(1 / 5)  # query 1: model 0 was right and not asked
    assert found.selection == pytest.approx(1 / 5)  # query 2: model 1 was asked, model 0 handed over
    assert found.beyond_pool == pytest.approx(2 / 5)


def test_resamples_are_seeded_and_draw_as_many_queries_as_there_are():
    weights = resamples(20, 50, seed=3)
    assert weights.sum(1) == pytest.approx(np.ones(50))
    assert (weights == resamples(20, 50, seed=3)).all()
    assert not (weights == resamples(20, 50, seed=4)).all()


def test_a_constant_has_an_interval_of_no_width_and_a_mean_has_the_right_one():
    weights = resamples(400, 1000, seed=0)
    assert resampled_means(weights, np.full((1, 400), 0.25)) == pytest.approx(0.25)
    coin = np.arange(400) % 2 == 0
    found = interval(0.5, resampled_means(weights, coin[None].astype(float))[:, 0])
    assert found.low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.008)
    assert found.high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.008)


def test_a_bound_among_resamples_without_the_figure_does_not_exist():
    draws = np.concatenate([np.full(10, np.nan), np.linspace(0.1, 0.2, 90)])
    found = interval(0.15, draws)
    assert np.isnan(found.low)
    assert found.high == pytest.approx(0.2, abs=0.005)
    assert np.isnan(interval(float("nan"), draws).high)


def test_oracle_takes_the_cheapest_right_model_until_it_is_not_worth_its_cost():
    score, cost = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, np.nan], [0, 0, 0]]), np.array([[2.0, 8.0, 1.0]] * 3)
    chosen = oracle_choices(score, cost, a(0.0, 1.0), reference_cost=4.0)
    assert chosen.tolist() == [[0, 1, 2], [0, 0, 2]]  # at 1: query 1 costs 8/4 when right, 2/4 when wrong
