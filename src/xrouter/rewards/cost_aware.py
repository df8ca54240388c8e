"""The gated reward of xRouter (arXiv 2510.08439, section 3): a right answer pays, less what it cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigurationError, DataError


@dataclass(frozen=True, slots=True)
class CostAwareReward:
    """r = s * (K - min(lambda * C, c_max)).

    s: quality, 0..1. K: `success_bonus`. C: cost, raw USD or normalised. lambda: `cost_weight`.
    c_max: `penalty_cap`, the most that cost may take off; at most K, so that a right answer, however dear,
    never earns less than a wrong one. A wrong answer earns 0 whatever it cost.

    Raises ConfigurationError unless 0 <= c_max <= K and K > 0.
    """

    success_bonus: float = 1.0
    penalty_cap: float = 0.8

    def __post_init__(self) -> None:
        if not self.success_bonus > 0:
            raise ConfigurationError(f"success_bonus must be above 0, got {self.success_bonus}")
        if not 0 <= self.penalty_cap <= self.success_bonus:
            raise ConfigurationError(
                f"penalty_cap must lie in 0..success_bonus ({self.success_bonus}), got {self.penalty_cap}; "
                "above it a right answer would earn less than a wrong one"
            )

    def reward(self, quality: ArrayLike, cost: ArrayLike, cost_weight: ArrayLike) -> NDArray[np.float64]:
        penalty = np.minimum(np.multiply(cost_weight, cost), self.penalty_cap)
        return np.asarray(np.multiply(quality, self.success_bonus - penalty), np.float64)


def normalised(cost_usd: ArrayLike, reference_cost_usd: ArrayLike) -> NDArray[np.float64]:
    """Cost in units of what a reference model's answer to the same query costs (USD over USD).

    At a cent a query, raw dollars make a penalty of two or three percent, too weak to teach thrift; in these
    units the same lambda means the same on any pool. Raises DataError unless every reference cost is above 0.
    """
    reference = np.asarray(reference_cost_usd, np.float64)
    if not np.all(reference > 0):
        raise DataError(
            f"reference_cost_usd must be above 0 everywhere, its least value is {reference.min()}"
        )
    return np.asarray(cost_usd, np.float64) / reference
