from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from xrouter.training.agreement import agreeing_pairs, cross_fitted_same, fit_loadings, fit_same


def test_pairs_are_counted_within_their_side() -> None:
    score = np.array([[1, 1, 0, 0, 0], [0, 0, 0, np.nan, 1.0]])
    answer = np.array([[0, 1, 2, 2, 3], [0, 0, -1, 0, 1]])
    equal, pairs = agreeing_pairs(score, answer, right=False)
    assert equal.tolist() == [1, 1]
    assert pairs.tolist() == [3, 1]
    equal, pairs = agreeing_pairs(score, answer, right=True)
    assert equal.tolist() == [0, 0]
    assert pairs.tolist() == [1, 0]


def test_weights_count_pairs_by_their_product() -> None:
    score, answer = np.zeros((1, 3)), np.array([[0, 0, 1]])
    equal, pairs = agreeing_pairs(score, answer, right=False, weight_M=np.array([2.0, 3.0, 0.5]))
    assert equal[0] == pytest.approx(6.0)
    assert pairs[0] == pytest.approx(6.0 + 1.0 + 1.5)


def made_up(queries: int = 600, models: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two topics: in the first wrong answers are nearly always alike, in the second they scatter."""
    rng = np.random.default_rng(0)
    topic = np.arange(queries) % 2
    score = (rng.random((queries, models)) < 0.5).astype(float)
    scatter = rng.integers(2, 40, (queries, models))
    answer = np.where(score > 0, 0, np.where(topic[:, None] == 0, 1, scatter))
    return np.column_stack([np.ones(queries), topic]), score, answer


def test_rates_of_agreement_follow_the_text() -> None:
    text, score, answer = made_up()
    rates = text[:2] @ fit_same(text, score, answer).T
    assert rates[0, 0] > 0.9
    assert rates[1, 0] < 0.1
    np.testing.assert_allclose(rates[:, 1], 1.0, atol=0.02)


def test_where_nothing_is_known_the_usual_rates_stand() -> None:
    text, score, answer = made_up(queries=20)
    silent = np.full_like(answer, -1)
    np.testing.assert_allclose(text @ fit_same(text, score, silent).T, [[0.25, 1.0]] * 20, atol=1e-6)


def test_a_querys_own_answers_do_not_reach_its_rates() -> None:
    text, score, answer = made_up(queries=60)
    fold = np.arange(60) % 5
    before = cross_fitted_same(text, score, answer, fold)
    changed = answer.copy()
    changed[7] = np.arange(6) + 50
    after = cross_fitted_same(text, score, changed, fold)
    np.testing.assert_array_equal(after[fold == 2], before[fold == 2])
    assert (after != before).any()


def test_loadings_tell_who_errs_with_whom() -> None:
    rng = np.random.default_rng(1)
    ease = rng.standard_normal((4000, 2))
    truth = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    score = (rng.random((4000, 4)) < expit(ease @ truth.T)).astype(float)
    present = np.ones_like(score, bool)
    loadings = fit_loadings(np.full(score.shape, 0.5), score, present)
    together = loadings @ loadings.T
    assert min(together[0, 1], together[2, 3]) > 1.5
    assert max(abs(together[0, 2]), abs(together[1, 3])) < 1.0


def test_a_model_that_was_never_asked_gets_the_mean_loading() -> None:
    rng = np.random.default_rng(2)
    score = (rng.random((800, 3)) < 0.5).astype(float)
    present = np.ones_like(score, bool)
    present[:, 2] = False
    loadings = fit_loadings(np.full(score.shape, 0.5), score, present)
    assert np.isfinite(loadings).all()
    assert np.abs(loadings[2] - loadings[:2].mean(0)).max() < 0.5
