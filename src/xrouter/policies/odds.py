"""Probabilities and their logits."""

from __future__ import annotations

import numpy as np

from .states import Floats


def logit(p: Floats) -> Floats:
    """p strictly inside 0..1."""
    return np.asarray(np.log(p / (1.0 - p)), np.float64)


def sigmoid(logit_: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-logit_)), np.float64)
