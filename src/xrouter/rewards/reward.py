"""The protocol every reward speaks."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray


@runtime_checkable
class Reward(Protocol):
    """Quality and cost in, what training maximises out; elementwise over anything that broadcasts.

    quality: 0..1. cost: of the whole episode, raw USD or normalised (see `cost_aware.normalised`).
    cost_weight: lambda, how much a unit of that cost is worth in quality.
    """

    def reward(self, quality: ArrayLike, cost: ArrayLike, cost_weight: ArrayLike) -> NDArray[np.float64]: ...
