from __future__ import annotations

from dataclasses import replace

import numpy as np
from learner_kit import fitted_policy
from synthetic import synthetic_outcomes

from xrouter.tasks.replay import Replay

OUTCOMES = synthetic_outcomes(seed=12, queries=80, models=6)
POLICY = fitted_policy(OUTCOMES, noise=0.0)
TEXT = POLICY.encode(OUTCOMES.recording.prompts)
QUERIES = np.arange(80)


def first_decisions(cap: float):
    states = Replay(OUTCOMES.recording, 3).start(QUERIES, np.zeros(80))
    states = replace(states, money_left_B=np.full(80, cap))
    return POLICY.prior(TEXT, states), POLICY.decide(TEXT, states)


def test_calls_under_a_cap_leave_room_for_longer_answers() -> None:
    prior, free = first_decisions(np.inf)
    usual = float((prior.cost_BM * free.call_BM).sum(1).mean())
    prior, choices = first_decisions(usual)
    bound = (prior.cap_margin_M * prior.cost_BM * choices.call_BM).sum(1)
    assert choices.call_BM.any(1).all()
    assert (bound <= usual * (1 + 1e-9)).all()


def test_where_nothing_fits_with_room_to_spare_the_cheapest_is_asked() -> None:
    prior, _ = first_decisions(np.inf)
    tight = float(np.median(prior.cost_BM.min(1))) * 1.2
    prior, choices = first_decisions(tight)
    cheapest = prior.cost_BM.min(1)
    squeezed = (cheapest <= tight) & ((prior.cap_margin_M * prior.cost_BM).min(1) > tight)
    assert squeezed.sum() > 10
    np.testing.assert_array_equal(choices.call_BM[squeezed].sum(1), 1)
    np.testing.assert_allclose((prior.cost_BM * choices.call_BM).sum(1)[squeezed], cheapest[squeezed])
