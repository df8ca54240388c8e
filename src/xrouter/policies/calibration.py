"""Stated confidence from the network's chances: one line in logits for each situation (Platt scaling, 1999).

The network learns with noise on what it knows, so that it cannot recognise training queries; that makes it too modest
where there is no noise. The lines are fitted without it, after training (`training.calibration`).
"""

from __future__ import annotations

from math import exp, log

import numpy as np
from numpy.typing import NDArray

from .odds import logit, sigmoid
from .states import Floats, Ints

SITUATIONS = ("at most one response", "several responses")
MIN_CONFIDENCE = 1e-3

Lines = NDArray[np.float32]
"""[S, 2]: intercept and slope of each of `SITUATIONS`."""


def as_stated() -> Lines:
    """Lines that change nothing."""
    return np.tile(np.array([0.0, 1.0], np.float32), (len(SITUATIONS), 1))


def situation_B(responses_B: Ints) -> Ints:
    """Row of the lines by the number of responses at hand."""
    return np.minimum(np.maximum(responses_B - 1, 0), len(SITUATIONS) - 1)


def calibrate(lines_S2: Lines, chance_B: Floats, responses_B: Ints) -> Floats:
    """Confidence [B]; a chance of 0 (nothing at hand) stays 0."""
    inside = np.minimum(np.maximum(chance_B, MIN_CONFIDENCE), 1.0 - MIN_CONFIDENCE)
    line = lines_S2[situation_B(responses_B)]
    return np.where(chance_B > 0, sigmoid(line[:, 0] + line[:, 1] * logit(inside)), 0.0)


def calibrate_one(lines_S2: Lines, chance: float, responses: int) -> float:
    """`calibrate` of one episode."""
    if chance <= 0.0:
        return 0.0
    inside = min(max(chance, MIN_CONFIDENCE), 1.0 - MIN_CONFIDENCE)
    intercept, slope = lines_S2[min(max(responses - 1, 0), len(SITUATIONS) - 1)].tolist()
    return 1.0 / (1.0 + exp(-(intercept + slope * log(inside / (1.0 - inside)))))
