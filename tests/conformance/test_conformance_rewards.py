"""What every reward must do; a new file in `xrouter.rewards` is picked up by itself."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import xrouter.rewards
from xrouter.rewards.reward import Reward


def rewards() -> list[Reward]:
    found = []
    for module in pkgutil.iter_modules(xrouter.rewards.__path__):
        if module.name in ("reward", "outcome"):
            continue
        namespace = importlib.import_module(f"xrouter.rewards.{module.name}")
        found += [
            cls()
            for _, cls in inspect.getmembers(namespace, inspect.isclass)
            if cls.__module__ == namespace.__name__ and hasattr(cls, "reward")
        ]
    return found


EVERY = pytest.mark.parametrize("reward", rewards(), ids=lambda reward: type(reward).__name__)
RNG = np.random.default_rng(7)
COST = np.concatenate([np.zeros(5), 10 ** RNG.uniform(-5, 2, 200)])
WEIGHT = np.concatenate([np.zeros(5), 10 ** RNG.uniform(-2, 1, 200)])


def test_the_shipped_rewards_are_found() -> None:
    assert {"CostAwareReward", "LinearReward"} <= {type(reward).__name__ for reward in rewards()}


@EVERY
def test_speaks_the_protocol(reward: Reward) -> None:
    assert isinstance(reward, Reward)
    out = reward.reward(1.0, 0.5, 0.5)
    assert isinstance(out, np.ndarray)
    assert out.dtype == np.float64


@EVERY
def test_a_wrong_answer_never_beats_the_same_answer_right(reward: Reward) -> None:
    assert np.all(reward.reward(0.0, COST, WEIGHT) < reward.reward(1.0, COST, WEIGHT))


@EVERY
def test_rises_with_quality(reward: Reward) -> None:
    quality_N1 = np.linspace(0, 1, 11)[:, None]
    assert np.all(np.diff(reward.reward(quality_N1, COST, WEIGHT), axis=0) >= 0)


@EVERY
@pytest.mark.parametrize("quality", [0.0, 0.3, 1.0])
def test_never_rises_with_cost_or_its_weight(reward: Reward, quality: float) -> None:
    rising_N1 = np.sort(COST)[:, None]
    assert np.all(np.diff(reward.reward(quality, rising_N1, WEIGHT), axis=0) <= 0)
    assert np.all(np.diff(reward.reward(quality, COST, rising_N1), axis=0) <= 0)


@EVERY
def test_without_a_cost_weight_cost_is_nothing(reward: Reward) -> None:
    assert np.all(reward.reward(1.0, COST, 0.0) == reward.reward(1.0, 0.0, 0.0))


@EVERY
def test_arrays_and_scalars_agree(reward: Reward) -> None:
    one_by_one = [float(reward.reward(0.7, c, w)) for c, w in zip(COST, WEIGHT, strict=True)]
    np.testing.assert_array_equal(reward.reward(0.7, COST, WEIGHT), one_by_one)
