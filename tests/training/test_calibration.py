from __future__ import annotations

import numpy as np
import pytest
from learner_kit import fitted_policy
from synthetic import synthetic_outcomes

from xrouter.evaluation.metrics import reliability
from xrouter.policies.calibration import as_stated, calibrate, situation_B
from xrouter.tasks.replay import Replay
from xrouter.training.calibration import fit_calibration, fit_line
from xrouter.training.warm_start import training_set

OUTCOMES = synthetic_outcomes(seed=8, queries=300, models=5)


def test_the_line_behind_the_scores_is_found() -> None:
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 1.5, 20_000)
    score = (rng.random(20_000) < 1 / (1 + np.exp(-(0.4 + 0.6 * logit)))).astype(float)
    np.testing.assert_allclose(fit_line(logit, score), [0.4, 0.6], atol=0.05)


def test_without_evidence_confidence_stays_as_it_is() -> None:
    np.testing.assert_allclose(fit_line(np.zeros(0), np.zeros(0)), [0.0, 1.0])
    extreme = fit_line(np.full(3, 2.0), np.ones(3))
    assert np.isfinite(extreme).all()
    assert abs(extreme - [0.0, 1.0]).max() < 0.3


def test_each_situation_has_its_own_line() -> None:
    lines = np.array([[1.0, 1.0], [-1.0, 1.0]], np.float32)
    chance = np.array([0.5, 0.5, 0.5, 0.0])
    stated = calibrate(lines, chance, np.array([0, 1, 2, 1]))
    np.testing.assert_allclose(stated, [0.7311, 0.7311, 0.2689, 0.0], atol=1e-4)
    np.testing.assert_allclose(calibrate(as_stated(), chance, np.array([0, 1, 2, 1])), chance, atol=1e-6)
    assert situation_B(np.array([0, 1, 2, 7])).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_policy_that_is_too_modest_or_too_bold_is_mended(seed: int) -> None:
    policy = fitted_policy(OUTCOMES, seed=seed, noise=0.0)
    policy.parameters = {**policy.parameters, "b3": np.array([1.5 if seed else -1.5, 0.0], np.float32)}
    data = training_set(OUTCOMES, policy.encoder, policy.profiles, max_turns=3, seed=0)
    lines = fit_calibration(policy, [data], 3, 0)
    np.testing.assert_array_equal(lines, fit_calibration(policy, [data], 3, 0))

    def error() -> float:
        query, weight = np.tile(np.arange(300), 3), np.repeat([0.01, 0.3, 3.0], 300)
        text = policy.encode(OUTCOMES.recording.prompts)
        done = Replay(OUTCOMES.recording, 3).run(policy, text, query, weight)
        return reliability(done.confidence_B, OUTCOMES.scores_of(query, done.answer_from_B)).error

    before = error()
    policy.calibration = lines
    assert error() < 0.6 * before


def test_a_line_is_found_where_whole_newton_steps_run_away() -> None:
    """Chances near 0 and 1 that are wrong now and then: hardly any curvature where it starts."""
    rng = np.random.default_rng(0)
    sure = np.concatenate([rng.uniform(9, 12, 800), rng.uniform(-12, -9, 200)])
    right = np.concatenate([rng.random(800) < 0.8, rng.random(200) < 0.3]).astype(float)
    line = fit_line(sure, right)
    stated = 1 / (1 + np.exp(-(line[0] + line[1] * sure)))
    assert np.abs(line).max() < 5
    assert stated[:800].mean() == pytest.approx(0.8, abs=0.03)
    assert stated[800:].mean() == pytest.approx(0.3, abs=0.1)
