"""Percentile bootstrap over queries (Efron and Tibshirani 1993, chapter 13), all resamples at once.

Axes: R resamples, Q queries, P points. The same resamples serve every policy, so their differences are paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure and the bounds of its 95% interval; NaN where it does not exist."""

    value: float
    low: float
    high: float


def resamples(queries: int, count: int, seed: int) -> Floats:
    """weights_RQ: how often each query was drawn, divided by Q; a row times values_Q is a resampled mean."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(queries, np.full(queries, 1.0 / queries), size=count)
    return drawn / queries


def resampled_means(weights_RQ: Floats, values_PQ: Floats) -> Floats:
    """means_RP"""
    return np.asarray(weights_RQ @ values_PQ.T, np.float64)


def interval(value: float, draws_R: Floats) -> Interval:
    """The percentile interval, rounded outwards to drawn values.

    A resample where the figure does not exist (NaN) counts as below every other, so a bound that falls
    among those is NaN.
    """
    if np.isnan(value) or not len(draws_R):
        return Interval(value, float("nan"), float("nan"))
    ranked = np.sort(np.where(np.isnan(draws_R), -np.inf, draws_R))
    tail = (1.0 - LEVEL) / 2.0 * (len(ranked) - 1)
    low, high = ranked[int(np.floor(tail))], ranked[int(np.ceil(len(ranked) - 1 - tail))]
    return Interval(value, *(float(b) if np.isfinite(b) else float("nan") for b in (low, high)))
