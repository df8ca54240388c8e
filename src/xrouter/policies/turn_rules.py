"""What bounds the network policy's turns, and what it holds an outcome to be worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from .states import Floats

Number = TypeVar("Number", float, Floats)

MAX_CALLS_PER_TURN = 4
HOPELESS_PENALTY = 1.2
"""A call whose penalty exceeds this cannot pay for itself: a right answer is worth 1. Since somebody must be asked,
the first call's penalty counts from the cheapest model's."""

TIE = 1e-6
"""Values closer than this are equal, for only rounding tells such apart: the pool's order then decides."""


@dataclass(frozen=True)
class Payoff:
    """The reward the policy was trained on, as a function of P(right) and penalty = lambda * cost.

    cap None: chance * bonus - penalty, every call is charged (`rewards.linear`).
    cap c_max: chance * (bonus - min(penalty, c_max)), only a right answer pays (`rewards.cost_aware`).
    """

    bonus: float = 1.0
    cap: float | None = None

    def __call__(self, chance: Number, penalty: Number) -> Number:
        if self.cap is None:
            return chance * self.bonus - penalty
        charged: Number = np.minimum(penalty, self.cap)
        return chance * (self.bonus - charged)
