from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from learner_kit import fitted_policy, tiny_config
from synthetic import synthetic_outcomes

from xrouter.policies.network import NetworkPolicy
from xrouter.tasks.outcomes import Outcomes
from xrouter.training.profiles import (
    add_spread,
    cross_fitted_skill,
    fit_profiles,
    fit_spread,
    prompt_folds,
    prompt_line,
    ridge,
)
from xrouter.training.trainer import hold_out, prepare
from xrouter.training.warm_start import training_set

OUTCOMES = synthetic_outcomes(seed=5, queries=150, models=4)


def features_of(rng: np.random.Generator, queries: int, width: int) -> np.ndarray:
    return np.column_stack([np.ones(queries), rng.standard_normal((queries, width - 1))])


def folds(queries: int, seed: int = 0) -> np.ndarray:
    return prompt_folds([f"prompt {i}" for i in range(queries)], seed=seed)


def test_ridge_finds_the_weights_behind_the_numbers() -> None:
    rng = np.random.default_rng(0)
    features, weights = features_of(rng, 200, 5), rng.standard_normal((3, 5))
    present = rng.random((200, 3)) < 0.7
    target = np.where(present, features @ weights.T, 1e6)
    np.testing.assert_allclose(ridge(features, target, present, 1e-6), weights, atol=1e-6)


def test_a_heavy_penalty_leaves_the_mean_of_what_is_present() -> None:
    rng = np.random.default_rng(0)
    features = features_of(rng, 50, 3)
    target, present = rng.random((50, 2)), np.ones((50, 2), bool)
    present[:, 1] = False
    weights = ridge(features, target, present, 1e12)
    np.testing.assert_allclose(weights, [[target[:, 0].mean(), 0, 0], [0, 0, 0]], atol=1e-6)


def test_cross_fitted_predictions_of_random_labels_are_chance() -> None:
    """A profile that saw its own query would know the label: in sample it does, cross-fitted it must not."""
    rng = np.random.default_rng(1)
    features = features_of(rng, 400, 120)
    labels = (rng.random((400, 3)) < 0.5).astype(float)
    present = np.ones_like(labels, bool)
    in_sample = features @ ridge(features, labels, present, 5.0).T
    honest = cross_fitted_skill(features, labels, present, folds(400))

    def accuracy(predicted: np.ndarray) -> float:
        return float(((predicted > 0.5) == (labels > 0.5)).mean())

    assert accuracy(in_sample) > 0.7
    assert 0.42 < accuracy(honest) < 0.56


def test_a_querys_own_label_never_reaches_its_prediction() -> None:
    rng = np.random.default_rng(2)
    features, labels = features_of(rng, 40, 6), rng.random((40, 2))
    present = np.ones_like(labels, bool)
    before = cross_fitted_skill(features, labels, present, folds(40, seed=3))
    for row in range(40):
        changed = labels.copy()
        changed[row] = 1.0 - changed[row]
        after = cross_fitted_skill(features, changed, present, folds(40, seed=3))
        np.testing.assert_array_equal(after[row], before[row])
        assert (after != before).any()


def test_nor_does_the_label_of_the_same_prompt_asked_again() -> None:
    rng = np.random.default_rng(3)
    once = features_of(rng, 20, 6)
    features, labels = np.concatenate([once, once]), rng.random((40, 2))
    fold = prompt_folds([f"prompt {i % 20}" for i in range(40)])
    present = np.ones_like(labels, bool)
    before = cross_fitted_skill(features, labels, present, fold)
    np.testing.assert_array_equal(before[:20], before[20:])
    for row in range(20):
        changed = labels.copy()
        changed[row] += 1.0
        after = cross_fitted_skill(features, changed, present, fold)
        np.testing.assert_array_equal(after[[row, row + 20]], before[[row, row + 20]])


def test_labels_that_can_be_predicted_are() -> None:
    text = fitted_policy(OUTCOMES).encode(OUTCOMES.recording.prompts)
    rng = np.random.default_rng(0)
    topic = np.array([dataset.endswith("history") for dataset in OUTCOMES.datasets])
    score = (rng.random((150, 1)) < np.where(topic, 0.95, 0.05)[:, None]).astype(float)
    predicted = cross_fitted_skill(text, score, np.ones_like(score, bool), folds(150))
    assert ((predicted[:, 0] > 0.5) == topic).mean() > 0.9


def with_scores(outcomes: Outcomes, rows: np.ndarray, value: float) -> Outcomes:
    score = outcomes.score_QM.copy()
    score[rows] = value
    return replace(outcomes, score_QM=score)


def test_the_prior_a_policy_trains_on_does_not_know_the_querys_own_scores() -> None:
    policy = fitted_policy(OUTCOMES)

    def chances(outcomes: Outcomes) -> np.ndarray:
        prior = training_set(outcomes, policy.encoder, policy.profiles, max_turns=3, seed=0).prior
        return np.concatenate([prior.chance_BM, prior.same_B2], 1)

    before = chances(OUTCOMES)
    for row in (0, 17, 149):
        after = chances(with_scores(OUTCOMES, np.array([row]), 1.0 - OUTCOMES.score_QM[row, 0]))
        np.testing.assert_array_equal(after[row], before[row])
        assert (after != before).any()


def test_nothing_is_fitted_on_the_validation_queries() -> None:
    config = tiny_config()
    _, held = hold_out(OUTCOMES, config.validation_share, config.seed)
    assert held is not None
    rows = np.array([OUTCOMES.query_ids.index(query) for query in held.query_ids])
    one = prepare([OUTCOMES], config)
    other = prepare([with_scores(OUTCOMES, rows, 1.0)], config)
    assert (other.validation[0].score_QM == 1.0).all()
    for name in (
        "skill_ND",
        "tokens_ND",
        "tokens_scale_N",
        "tokens_spread_N",
        "prompt_N2",
        "typical_D",
        "descriptor_weights",
        "same_2D",
        "loadings_NE",
    ):
        np.testing.assert_array_equal(getattr(one.profiles, name), getattr(other.profiles, name))
    np.testing.assert_array_equal(one.training[0].prior.chance_BM, other.training[0].prior.chance_BM)
    np.testing.assert_array_equal(one.encoder.buckets_V, other.encoder.buckets_V)


def test_repeated_prompts_stay_on_one_side_of_the_split() -> None:
    prompts = tuple(f"prompt {i % 50}" for i in range(150))
    outcomes = replace(OUTCOMES, recording=replace(OUTCOMES.recording, prompts=prompts))
    train, held = hold_out(outcomes, 0.3, seed=1)
    assert held is not None
    assert not set(train.recording.prompts) & set(held.recording.prompts)
    assert len(held) == 45
    assert sorted((*train.query_ids, *held.query_ids)) == sorted(outcomes.query_ids)
    assert hold_out(outcomes, 0.3, seed=1)[0].query_ids == train.query_ids
    assert hold_out(outcomes, 0.3, seed=2)[0].query_ids != train.query_ids


@pytest.mark.parametrize("share", [0.0, 0.001])
def test_without_a_share_there_is_no_validation(share: float) -> None:
    train, held = hold_out(OUTCOMES, share, seed=0)
    assert held is None
    assert train.query_ids == OUTCOMES.query_ids


def test_profiles_predict_as_many_tokens_and_dollars_as_there_were() -> None:
    record = OUTCOMES.recording
    policy = fitted_policy(OUTCOMES)
    text = policy.encode(record.prompts)
    of_pool = policy.profiles.of_pool(OUTCOMES.models)
    predicted = of_pool.tokens_BM(text)
    np.testing.assert_allclose(predicted.mean(0), record.tokens_QM.mean(0), rtol=1e-3)
    cost = of_pool.cost_BM(predicted, record.prompt_tokens_QM[:, 0].astype(float))
    np.testing.assert_allclose(cost.mean(0), record.cost_QM.mean(0), rtol=0.02)
    np.testing.assert_allclose(of_pool.chance_BM(text).mean(0), OUTCOMES.score_QM.mean(0), atol=0.02)


def test_a_model_that_was_hardly_asked_hardly_changes_another_profile() -> None:
    record = OUTCOMES.recording
    text = fitted_policy(OUTCOMES).encode(record.prompts)
    present = record.present_QM.copy()
    present[3:, 2] = False
    score = np.where(present, OUTCOMES.score_QM, np.nan)
    fewer = replace(OUTCOMES, score_QM=score, recording=replace(record, present_QM=present))
    fitted, whole = fit_profiles(fewer, text), fit_profiles(OUTCOMES, text)
    for name in ("skill_ND", "tokens_ND", "tokens_scale_N"):
        one, other = getattr(fitted, name), getattr(whole, name)
        assert np.isfinite(one).all()
        if name == "skill_ND":  # what is hard for all is learned from all
            one, other = text @ one.T, text @ other.T
            np.testing.assert_allclose(np.delete(one, 2, 1), np.delete(other, 2, 1), atol=0.06)
        else:
            np.testing.assert_allclose(np.delete(one, 2, 0), np.delete(other, 2, 0), rtol=1e-4, atol=1e-5)


def test_counted_prompt_tokens_are_a_line_of_the_estimate_and_never_negative() -> None:
    estimate = np.array([10.0, 20.0, 40.0])
    assert prompt_line(estimate, 50 + 2 * estimate) == pytest.approx((50.0, 2.0))
    assert prompt_line(estimate, 3 * estimate - 15) == pytest.approx((0.0, 55 / (70 / 3)))
    assert prompt_line(estimate, 100 - estimate) == pytest.approx((100 - 70 / 3, 0.0))
    assert prompt_line(np.array([5.0, 5.0]), np.array([8.0, 12.0])) == (10.0, 0.0)
    assert prompt_line(np.zeros(0), np.zeros(0)) == (0.0, 1.0)


def test_the_spread_of_lengths_is_found_out_of_fold() -> None:
    rng = np.random.default_rng(5)
    features = np.concatenate([np.ones((3_000, 1)), rng.standard_normal((3_000, 12))], 1)
    spread = np.array([0.3, 0.8, 0.5])
    log_tokens = 5.0 + features[:, 1:2] + spread * rng.standard_normal((3_000, 3))
    present = np.ones((3_000, 3), bool)
    present[4:, 2] = False
    fitted = fit_spread(features, log_tokens, present, np.arange(3_000) % 5)
    np.testing.assert_allclose(fitted[:2], spread[:2], rtol=0.05)
    assert 0.5 < fitted[2] < 0.8  # four answers: nearly the common spread


def test_spread_of_one_repeated_prompt_or_of_nothing_is_finite() -> None:
    one = fit_spread(np.ones((3, 1)), np.zeros((3, 2)), np.ones((3, 2), bool), np.zeros(3, np.int64))
    none = fit_spread(np.ones((3, 1)), np.zeros((3, 2)), np.zeros((3, 2), bool), np.arange(3))
    assert np.isfinite([one, none]).all()


def test_a_policy_gets_spreads_and_keeps_all_else() -> None:
    policy = fitted_policy(OUTCOMES)
    flat = np.full(len(policy.profiles.names), 0.69, np.float32)
    old = NetworkPolicy(
        policy.encoder,
        replace(policy.profiles, tokens_spread_N=flat),
        policy.parameters,
        policy.payoff,
        version="old",
    )
    new = add_spread(old, OUTCOMES)
    np.testing.assert_array_equal(new.profiles.tokens_spread_N, policy.profiles.tokens_spread_N)
    assert (new.version, new.payoff, new.parameters) == (old.version, old.payoff, old.parameters)
    some = add_spread(old, OUTCOMES.columns(np.array([0, 1])))
    common = np.sqrt(np.mean(some.profiles.tokens_spread_N[:2] ** 2))
    np.testing.assert_allclose(some.profiles.tokens_spread_N[2:], common, rtol=1e-6)
