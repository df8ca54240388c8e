from __future__ import annotations

import numpy as np
import pytest
from learner_kit import fitted_policy
from synthetic import synthetic_outcomes

from xrouter.episodes.episode import Observation, Preference
from xrouter.errors import RequestError
from xrouter.messages import Request
from xrouter.policies.forecast import predicted_cost_quantile

OUTCOMES = synthetic_outcomes(seed=12, queries=80, models=5)
POLICY = fitted_policy(OUTCOMES)


def observation(**params: object) -> Observation:
    request = Request.from_text(OUTCOMES.recording.prompts[3], **params)
    return Observation(request, OUTCOMES.models, Preference(), (), turns_left=3)


def test_each_model_has_an_expected_cost_and_one_that_it_hardly_exceeds() -> None:
    forecasts = predicted_cost_quantile(POLICY, observation())
    assert [f.model for f in forecasts] == list(OUTCOMES.model_names)
    assert all(0 < f.expected_usd < f.quantile_usd for f in forecasts)
    further = predicted_cost_quantile(POLICY, observation(), 0.99)
    assert all(a.quantile_usd < b.quantile_usd for a, b in zip(forecasts, further, strict=True))
    assert [f.expected_usd for f in further] == [f.expected_usd for f in forecasts]


def test_recorded_costs_stay_below_it_as_often_as_stated() -> None:
    record = OUTCOMES.recording
    below = []
    for q in range(len(record)):
        seen = Observation(Request.from_text(record.prompts[q]), OUTCOMES.models, Preference(), (), 3)
        limit = np.array([f.quantile_usd for f in predicted_cost_quantile(POLICY, seen)])
        below.append((record.cost_QM[q] <= limit).mean())
    assert 0.8 < np.mean(below) <= 0.99


def test_no_answer_is_longer_than_the_client_allows() -> None:
    free = predicted_cost_quantile(POLICY, observation())
    brief = predicted_cost_quantile(POLICY, observation(max_tokens=3))
    assert all(b.quantile_usd < f.expected_usd for b, f in zip(brief, free, strict=True))
    assert all(b.quantile_usd == b.expected_usd for b in brief)
    twice = predicted_cost_quantile(POLICY, observation(max_tokens=3, n=2))
    assert all(
        b.expected_usd < t.expected_usd < 2 * b.expected_usd for b, t in zip(brief, twice, strict=True)
    )


@pytest.mark.parametrize("quantile", [0.0, 1.0, -1.0, float("nan")])
def test_a_quantile_is_a_probability(quantile: float) -> None:
    with pytest.raises(RequestError, match="quantile must be a probability"):
        predicted_cost_quantile(POLICY, observation(), quantile)
