"""Score minus weighted cost: the Lagrangian of the best score under a budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class LinearReward:
    """r = s - lambda * C.

    s: quality, 0..1. C: cost, raw USD or normalised. lambda: `cost_weight`.

    Maximising its mean is maximising mean score subject to a bound on mean cost, with lambda the price of
    that bound (the Lagrangian of a constrained MDP; Altman 1999, chapter 3): each lambda gives one point of
    the frontier of score over cost. The gated reward does not charge for money spent on a question that
    nobody in the pool can answer, so its policy goes on asking there; this one stops. The price is that a
    right answer dearer than 1/lambda earns less than a free wrong one.
    """

    def reward(self, quality: ArrayLike, cost: ArrayLike, cost_weight: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(np.subtract(quality, np.multiply(cost_weight, cost)), np.float64)
