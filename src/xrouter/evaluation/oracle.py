"""The oracle: what the pool could do for someone who knew the scores. For reports only; it is not a policy.

Axes: W cost weights, Q queries, M models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_TIE_BREAK = 1e-9
"""Smallest weight used, so that among equally right models the cheapest is taken even at weight 0."""


def oracle_choices(
    score_QM: Floats, cost_QM: Floats, cost_weights: Floats, reference_cost: float
) -> NDArray[np.int64]:
    """choice_WQ: the one call with the highest score - lambda * cost / reference cost.

    score_QM: NaN where the model was never asked. cost_QM, reference_cost: US dollars.
    """
    weights = np.maximum(np.asarray(cost_weights, np.float64), _TIE_BREAK)
    value = score_QM[None] - weights[:, None, None] * cost_QM[None] / reference_cost
    return np.asarray(np.where(np.isnan(value), -np.inf, value).argmax(2), np.int64)
