"""Numbers of an episode, and their means over a step."""

from __future__ import annotations

from decimal import Decimal

import pytest

from xrouter.errors import DataError
from xrouter.messages import Usage
from xrouter.rewards.outcome import Outcome
from xrouter.training.router.episode import EpisodeResult
from xrouter.training.verl.episode_record import models_of, numbers, step_metrics
from xrouter.training.verl.reward import NOTED, compute_score


def result(answered_by: str | None, quality: float, *, invalid: int = 0) -> EpisodeResult:
    return EpisodeResult(
        index=0,
        reward=quality - 0.1,
        outcome=Outcome(quality, Decimal("0.002"), 1.0, 1),
        ended="failed" if answered_by is None else "selected",
        answered_by=answered_by,
        called=("a",),
        turns=2,
        problems={"unknown_tool": invalid} if invalid else {},
        router_usage=Usage(100, 20),
        router_cost_usd=Decimal("0.001"),
    )


def test_all_samples_have_the_same_names() -> None:
    one = numbers(result("a", 1.0), ["a", "b"], overlong_penalty=-0.25)
    other = numbers(result(None, 0.0), ["a", "b"], full=True)
    assert set(one) == set(other)
    assert (one["score"], one["episode_reward"], one["acc"]) == (pytest.approx(0.65), 0.9, 1.0)
    assert (one["route/a"], one["route/b"], one["route/none"]) == (1.0, 0.0, 0.0)
    assert (other["route/none"], other["ended/failed"], other["full"]) == (1.0, 1.0, 1.0)
    assert "reward" not in one, "verl's validation has that name for itself"


def test_means_of_a_step() -> None:
    played = [result("a", 1.0), result("router", 0.5), result(None, 0.0, invalid=3)]
    records = [{"numbers": numbers(one, ["a", "b"]), "problems": one.problems} for one in played]
    figures = step_metrics(records)
    assert figures["acc"] == 0.5
    assert figures["cost_usd"] == pytest.approx(0.002)
    assert figures["invalid_rate"] == 3 / 6
    assert figures["problem/unknown_tool"] == 1.0
    assert figures["route/a"] == pytest.approx(1 / 3)
    assert "route/b" not in figures
    assert step_metrics([]) == {}


def test_models_are_those_of_the_whole_data_set() -> None:
    tools = {
        "call_b": {"create_kwargs": {"model": "b", "offered": False}},
        "select_response": {"create_kwargs": {"model": "", "offered": True}},
    }
    assert models_of({"tools_kwargs": tools, "pool": ["a"]}) == ["a", "b"]


def test_the_reward_function_hands_on_what_the_loop_noted() -> None:
    noted = numbers(result("a", 1.0), ["a"])
    assert compute_score("kit", "text", "truth", {NOTED: noted, "other": 1}) == noted


@pytest.mark.parametrize("extra", [None, {}, {NOTED: {"acc": 1.0}}])
def test_an_episode_that_was_not_ours_has_no_reward(extra: dict[str, object] | None) -> None:
    with pytest.raises(DataError, match="agent loop `xrouter`"):
        compute_score("kit", "text", "truth", extra)
