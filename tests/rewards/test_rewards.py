"""Each expected value is worked out by hand in the comment or the table beside it."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from xrouter.episodes.episode import Call, CallModels, Decision, Episode, Preference, Response, Step
from xrouter.errors import ConfigurationError, DataError
from xrouter.messages import Completion, Request, Usage
from xrouter.rewards.cost_aware import CostAwareReward, normalised
from xrouter.rewards.linear import LinearReward
from xrouter.rewards.outcome import Outcome


@pytest.mark.parametrize(
    ("quality", "cost", "cost_weight", "expected"),
    [
        (1.0, 0.0, 2.0, 1.0),  # free and right: K
        (1.0, 0.25, 2.0, 0.5),  # 1 * (1 - min(0.5, 0.8))
        (0.5, 0.25, 2.0, 0.25),  # half of that
        (1.0, 0.4, 2.0, 0.19999999999999996),  # 1 - 0.8: exactly at the cap
        (1.0, 100.0, 2.0, 0.19999999999999996),  # over the cap: the cap
        (0.0, 100.0, 2.0, 0.0),  # wrong: 0 whatever it cost
        (1.0, 5.0, 0.0, 1.0),  # lambda 0: quality alone
        (1.0, 0.0078125, 2.0, 0.984375),  # a cent or so in raw dollars: a penalty of under two percent
    ],
)
def test_gated_reward_is_exact(quality: float, cost: float, cost_weight: float, expected: float) -> None:
    assert CostAwareReward().reward(quality, cost, cost_weight) == expected


def test_gated_reward_takes_its_constants() -> None:
    # 0.5 * (2 - min(3 * 0.25, 0.5)) = 0.5 * 1.5
    assert CostAwareReward(success_bonus=2.0, penalty_cap=0.5).reward(0.5, 0.25, 3.0) == 0.75


def test_gated_reward_broadcasts_one_lambda_per_row() -> None:
    quality_PG = np.array([[1.0, 0.0, 0.5], [1.0, 1.0, 0.0]])
    cost_PG = np.array([[0.25, 0.25, 0.25], [0.5, 4.0, 1.0]])
    cost_weight_P1 = np.array([[2.0], [0.5]])
    rewards_PG = CostAwareReward(penalty_cap=0.75).reward(quality_PG, cost_PG, cost_weight_P1)
    np.testing.assert_array_equal(rewards_PG, [[0.5, 0.0, 0.25], [0.75, 0.25, 0.0]])
    assert rewards_PG.dtype == np.float64


@pytest.mark.parametrize(
    ("bonus", "cap", "named"),
    [
        (0.0, 0.0, "success_bonus"),
        (1.0, 1.5, "penalty_cap"),
        (1.0, -0.1, "penalty_cap"),
        (float("nan"), 0.1, "success_bonus"),
    ],
)
def test_gated_reward_refuses_constants_that_reward_wrong_answers(
    bonus: float, cap: float, named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        CostAwareReward(success_bonus=bonus, penalty_cap=cap)


@pytest.mark.parametrize(
    ("quality", "cost", "cost_weight", "expected"),
    [(1.0, 0.25, 2.0, 0.5), (0.0, 0.25, 2.0, -0.5), (0.5, 4.0, 0.25, -0.5), (1.0, 9.0, 0.0, 1.0)],
)
def test_linear_reward_is_exact(quality: float, cost: float, cost_weight: float, expected: float) -> None:
    assert LinearReward().reward(quality, cost, cost_weight) == expected


def test_linear_charges_for_hopeless_calls_and_the_gated_form_does_not() -> None:
    assert LinearReward().reward(0.0, 1.0, 0.5) == -0.5
    assert CostAwareReward().reward(0.0, 1.0, 0.5) == 0.0


def test_normalised_counts_in_reference_costs() -> None:
    np.testing.assert_array_equal(normalised([0.5, 0.0, 3.0], [1.0, 1.0, 2.0]), [0.5, 0.0, 1.5])
    assert normalised(0.01, 0.02) == 0.5


@pytest.mark.parametrize("reference", [0.0, [1.0, 0.0], [1.0, -2.0], float("nan")])
def test_normalised_needs_a_reference_cost(reference: object) -> None:
    with pytest.raises(DataError, match="reference_cost_usd"):
        normalised(0.01, reference)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((1.1, Decimal(0), 0.0, 0), "quality"),
        ((float("nan"), Decimal(0), 0.0, 0), "quality"),
        ((1.0, Decimal(-1), 0.0, 0), "cost_usd"),
        ((1.0, Decimal(0), -0.5, 0), "seconds"),
        ((1.0, Decimal(0), 0.0, -1), "calls"),
    ],
)
def test_outcome_names_the_value_out_of_range(values: tuple[float, Decimal, float, int], named: str) -> None:
    with pytest.raises(DataError, match=named):
        Outcome(*values)


def test_outcome_of_an_episode_counts_unused_and_failed_calls() -> None:
    completion = Completion(message={"role": "assistant", "content": "4"}, usage=Usage(10, 2))
    kept = Response("c1", "small", 1, completion, "4", completion.usage, Decimal("0.001"), 0.5)
    lost = Response("c2", "large", 1, None, None, Usage(10, 0), Decimal("0.002"), 0.7, error="timed out")
    step = Step(Decision(CallModels((Call("small"), Call("large")))), (kept, lost))
    episode = Episode(
        id="e1",
        request=Request.from_text("2 + 2?"),
        preference=Preference(),
        steps=(step,),
        completion=completion,
        answer_from=kept,
        stop_reason="selected",
        cost_usd=Decimal("0.003"),
        usage=Usage(20, 2),
        latency_s=0.75,
    )
    assert Outcome.of(episode, 1.0) == Outcome(1.0, Decimal("0.003"), 0.75, 2)
