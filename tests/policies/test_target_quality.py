"""The ladder of lambdas, on a policy whose every rung is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from outcomes_kit import kit_states
from synthetic import synthetic_outcomes

from xrouter.errors import RequestError
from xrouter.policies.baselines import Cheapest
from xrouter.policies.states import Choices, Floats, States
from xrouter.policies.target_quality import LADDER, ODDS_GAINED, TargetQuality
from xrouter.tasks.replay import Replay

PRICES = {"thrifty": 0.1, "middling": 1.0, "lavish": 10.0}


@dataclass
class Rungs:
    """At lambda from 1 up the first decision, from 0.1 the second, below the third: ("call" or "stop", confidence).

    A call is of the model at that place, a stop hands over the first model's response.
    """

    decisions: Sequence[tuple[str, float]]
    name: str = "rungs"
    version: str = "1"
    asked: list[int] = field(default_factory=list)

    def encode(self, queries: Sequence[str]) -> Floats:
        return np.zeros((len(queries), 0))

    def decide(self, text_BD: Floats, states: States) -> Choices:
        self.asked.append(len(states))
        call_BM = np.zeros_like(states.allowed_BM)
        select_B, confidence_B = np.full(len(states), -1), np.zeros(len(states))
        for b, weight in enumerate(states.cost_weight_B):
            place = 0 if weight >= 1 else 1 if weight >= 0.1 else 2
            kind, confidence_B[b] = self.decisions[place]
            if kind == "stop":
                select_B[b] = 0
            else:
                call_BM[b, place] = True
        return Choices(call_BM, select_B, confidence_B)


def decide(
    decisions: Sequence[tuple[str, float]], target: float, turns_left: int = 3
) -> tuple[int | str, float]:
    """The place called or "stop", and the confidence."""
    states = kit_states(PRICES, turns_left=turns_left, target_quality=target)
    found = TargetQuality(Rungs(decisions)).decide(np.zeros((1, 0)), states)
    assert found.call_BM.sum() == (found.select_B[0] < 0)
    return "stop" if found.select_B[0] >= 0 else int(found.call_BM[0].argmax()), found.confidence_B[0]


def test_the_ladder_goes_from_thrifty_to_quality_alone() -> None:
    assert list(LADDER) == sorted(LADDER, reverse=True)
    assert LADDER[-1] == 0.0


@pytest.mark.parametrize(
    ("decisions", "target", "outcome"),
    [
        ([("call", 0.9), ("call", 0.95), ("call", 0.99)], 0.8, (0, 0.9)),
        ([("call", 0.3), ("call", 0.85), ("call", 0.99)], 0.8, (1, 0.85)),
        ([("stop", 0.81), ("call", 0.9), ("call", 0.99)], 0.8, ("stop", 0.81)),
        ([("stop", 0.79), ("call", 0.9), ("call", 0.99)], 0.8, (1, 0.9)),
        ([("stop", 0.7), ("stop", 0.8), ("call", 0.99)], 0.8, ("stop", 0.8)),
    ],
)
def test_the_thriftiest_rung_that_does_not_give_up(
    decisions: list[tuple[str, float]], target: float, outcome: object
) -> None:
    for turns_left in (2, 3):
        assert decide(decisions, target, turns_left) == outcome


def test_while_calls_can_follow_a_promise_may_fall_a_little_short() -> None:
    decisions = [("call", 0.72), ("call", 0.85), ("call", 0.9)]
    assert 0.8 / 0.2 / ODDS_GAINED < 0.72 / 0.28
    assert decide(decisions, 0.8, turns_left=3) == (0, 0.72)
    assert decide(decisions, 0.8, turns_left=2) == (1, 0.85)
    assert decide(decisions, 0.8, turns_left=1) == (1, 0.85)


def test_out_of_reach_the_most_confident_call_is_made() -> None:
    assert decide([("call", 0.3), ("call", 0.6), ("call", 0.5)], 0.95) == (1, 0.6)
    assert decide([("stop", 0.7), ("call", 0.6), ("stop", 0.7)], 0.95) == (1, 0.6)
    assert decide([("call", 0.6), ("call", 0.62), ("call", 0.64)], 0.95) == (0, 0.6)


def test_where_even_lambda_0_stops_the_answer_is_handed_over_short_of_the_target() -> None:
    assert decide([("stop", 0.5), ("stop", 0.6), ("stop", 0.7)], 0.95) == ("stop", 0.7)


def test_settled_episodes_drop_out_and_those_without_a_target_keep_their_lambda() -> None:
    policy = Rungs([("call", 0.5), ("call", 0.85), ("call", 0.99)])
    one = kit_states(PRICES, turns_left=2, cost_weight=0.5)
    four = replace(one.rows(np.zeros(4, np.int64)), target_quality_B=np.array([0.4, 0.8, np.nan, 0.9]))
    found = TargetQuality(policy).decide(np.zeros((4, 0)), four)
    assert found.call_BM.argmax(1).tolist() == [0, 1, 1, 2]
    np.testing.assert_allclose(found.confidence_B, [0.5, 0.85, 0.85, 0.99])
    assert policy.asked[:2] == [1, 3]
    assert policy.asked == sorted(policy.asked[:1]) + sorted(policy.asked[1:], reverse=True)


def test_without_a_target_the_policy_is_asked_once() -> None:
    policy = Rungs([("call", 0.5)] * 3)
    TargetQuality(policy).decide(np.zeros((1, 0)), kit_states(PRICES))
    assert policy.asked == [1]


def test_a_policy_without_confidence_is_refused() -> None:
    with pytest.raises(RequestError, match="'cheapest' states none") as error:
        TargetQuality(Cheapest()).decide(np.zeros((1, 0)), kit_states(PRICES, target_quality=0.9))
    assert error.value.param == "target_quality"


def test_asking_for_more_costs_more_and_brings_more() -> None:
    from learner_kit import fitted_policy

    outcomes = synthetic_outcomes(seed=3, queries=300, models=6)
    policy = fitted_policy(outcomes, noise=0.0)
    record, query = outcomes.recording, np.arange(len(outcomes))
    played = [
        Replay(record).run(
            policy,
            policy.encode(record.prompts),
            query,
            np.zeros(len(query)),
            np.full(len(query), target),
        )
        for target in (0.3, 0.6, 0.9)
    ]
    costs = [rollouts.cost_B.mean() for rollouts in played]
    scores = [outcomes.scores_of(query, rollouts.answer_from_B).mean() for rollouts in played]
    assert costs == sorted(costs)
    assert scores == sorted(scores)
    assert costs[-1] > 2 * costs[0]
