from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from learner_kit import fitted_policy
from synthetic import synthetic_outcomes

from xrouter.policies.features import Prior
from xrouter.training.episodes import Sampling, draw, outcomes_of
from xrouter.training.imagination import imagine, seated
from xrouter.training.warm_start import training_set

OUTCOMES = synthetic_outcomes(seed=7, queries=80, models=5)


def prior(
    chances: list[float], same_wrong: float, same_right: float, loadings: np.ndarray, worlds: int
) -> Prior:
    shape = (worlds, len(chances))
    return Prior(
        chance_BM=np.tile(chances, (worlds, 1)),
        tokens_BM=np.ones(shape),
        cost_BM=np.ones(shape),
        known_BM=np.ones(shape, bool),
        same_B2=np.tile([same_wrong, same_right], (worlds, 1)),
        loadings_ME=loadings,
        reference_cost=1.0,
        cap_margin_M=np.ones(len(chances)),
    )


def test_imagined_worlds_have_the_stated_frequencies() -> None:
    chances, loadings = [0.3, 0.6, 0.8, 0.5], np.tile([1.5, 0.5], (4, 1))
    score, answer = imagine(prior(chances, 0.25, 0.7, loadings, 40_000), np.random.default_rng(0))
    np.testing.assert_allclose(score.mean(0), chances, atol=0.02)
    for first, second in ((0, 1), (1, 3), (0, 3)):
        both_wrong = (score[:, first] == 0) & (score[:, second] == 0)
        both_right = (score[:, first] == 1) & (score[:, second] == 1)
        same = answer[:, first] == answer[:, second]
        assert same[both_wrong].mean() == pytest.approx(0.25, abs=0.02)
        assert same[both_right].mean() == pytest.approx(0.7, abs=0.02)
        assert not same[~both_wrong & ~both_right].any(), "a right answer is never a wrong one"


def test_loadings_make_models_succeed_together() -> None:
    def correlation(loadings: list[list[float]]) -> float:
        score, _ = imagine(prior([0.5, 0.5], 0.2, 1.0, np.array(loadings), 20_000), np.random.default_rng(1))
        return float(np.corrcoef(score.T)[0, 1])

    assert abs(correlation([[2.0, 0.0], [0.0, 2.0]])) < 0.03
    assert correlation([[2.0, 0.0], [2.0, 0.0]]) > 0.25


def test_a_class_has_one_side_only_and_a_lonely_member_sits_alone() -> None:
    rng = np.random.default_rng(0)
    member = rng.random((500, 6)) < 0.5
    classes = seated(member, np.full(500, 0.5), rng)
    for row, inside in zip(classes, member, strict=True):
        assert not set(row[inside]) & set(row[~inside])
        assert len(set(row[~inside])) == (~inside).sum(), "who is no member joins nobody"


def test_half_of_the_worlds_are_imagined_and_queries_without_answers_stay_without() -> None:
    answers = OUTCOMES.recording.answer_QM.copy()
    answers[::2] = -1
    outcomes = replace(OUTCOMES, recording=replace(OUTCOMES.recording, answer_QM=answers))
    policy = fitted_policy(outcomes)
    data = training_set(outcomes, policy.encoder, policy.profiles, max_turns=3, seed=0)
    query = np.arange(80).repeat(20)
    for share, low, high in ((0.0, 1.0, 1.0), (0.5, 0.45, 0.7), (1.0, 0.0, 0.35)):
        rng = np.random.default_rng(2)
        score, answer = outcomes_of(data, query, rng.random(len(query)) >= share, rng)
        as_recorded = (score == outcomes.score_QM[query]).all(1)
        assert low <= as_recorded.mean() <= high
        assert (answer[query % 2 == 0] == -1).all()
        assert (answer[query % 2 == 1] >= 0).any(1).all()


def test_the_rollouts_of_a_group_share_their_world() -> None:
    policy = fitted_policy(OUTCOMES)
    data = training_set(OUTCOMES, policy.encoder, policy.profiles, max_turns=3, seed=0)
    rng = np.random.default_rng(3)
    drawn = draw(data, rng.integers(0, 80, 10), Sampling(imagined_share=1.0), rng, repeat=4)
    for values in (drawn.score_BM, drawn.world.answer_QM):
        groups = values.reshape(10, 4, -1)
        np.testing.assert_array_equal(groups, np.broadcast_to(groups[:, :1], groups.shape))
