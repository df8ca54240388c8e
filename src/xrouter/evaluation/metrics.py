"""What a policy's points are worth: pure functions, arrays in, arrays out.

Axes: P points of one policy, Q queries, M models, K budgets. `...` are leading axes (resamples of a bootstrap),
so a figure and its confidence interval come out of the same lines.

A point = (mean score, mean cost in US dollars a query) at one setting of the policy's preference.
best = the single model with the highest score on the train split.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BUDGETS = 50
RIGHT = 0.5
"""An answer with at least this score counts as right."""
_SLACK = 1e-9
"""Relative; keeps a point that lies on a threshold from falling off it by rounding."""
_SMALLEST_SHARE = 1e-6
"""Lowest budget as a share of the highest, where the cheapest model is free: logarithms need more than zero."""


def best_model(train_score_M: Floats, coverage_M: Floats, least: float = 0.9) -> int:
    """Index of the highest train score among the models that answered at least this share of the queries."""
    eligible = coverage_M >= least if (coverage_M >= least).any() else coverage_M == coverage_M.max()
    return int(np.where(eligible, train_score_M, -np.inf).argmax())


def frontier(score_P: Floats, cost_P: Floats) -> Ints:
    """Indices of the points that no other point beats at the same cost or less, by rising cost."""
    order = np.lexsort((-score_P, cost_P))
    before = np.maximum.accumulate(np.concatenate([[-np.inf], score_P[order][:-1]]))
    return np.asarray(order[score_P[order] > before], np.int64)


def saving(score_P: Floats, cost_P: Floats, best_score: Floats, best_cost: Floats, percent: float) -> Floats:
    """save@p = 1 - cheapest cost among points whose score is at least p% of best's / best's cost.

    score_P, cost_P: [..., P]; best_score, best_cost: [...]. NaN where no point gets there or best is free.
    """
    needed = np.asarray(best_score)[..., None] * (percent / 100.0) * (1.0 - _SLACK)
    cheapest = np.where(score_P >= needed, cost_P, np.inf).min(-1)
    best_cost = np.asarray(best_cost, np.float64)
    reached = np.isfinite(cheapest) & (best_cost > 0)
    ratio = np.divide(cheapest, best_cost, out=np.full(np.shape(cheapest), np.nan), where=reached)
    return np.asarray(1.0 - ratio, np.float64)


def area(
    score_P: Floats, cost_P: Floats, cheapest_cost: Floats, best_cost: Floats, budgets: int = BUDGETS
) -> Floats:
    """Mean, over log-spaced budgets from the cheapest model's cost to best's, of the highest affordable score.

    score_P, cost_P: [..., P]; cheapest_cost, best_cost: [...]. A budget that affords no point counts 0.
    """
    high = np.asarray(best_cost, np.float64)
    low = np.maximum(np.asarray(cheapest_cost, np.float64), high * _SMALLEST_SHARE)
    tiny = np.finfo(np.float64).tiny
    log_low, log_high = np.log(np.maximum(low, tiny)), np.log(np.maximum(high, tiny))
    total = np.zeros(np.shape(high))
    for share in np.linspace(0.0, 1.0, budgets):
        budget = np.exp(log_low + share * (log_high - log_low)) * (1.0 + _SLACK)
        total = total + np.where(cost_P <= budget[..., None], score_P, 0.0).max(-1)
    return np.asarray(total / budgets, np.float64)


@dataclass(frozen=True, eq=False)
class Reliability:
    """Equal-width bins of stated confidence. Empty bins have count 0 and NaN means."""

    edges: Floats
    count: Ints
    confidence: Floats
    score: Floats

    @property
    def error(self) -> float:
        """Expected calibration error: mean |confidence - score| over answers (Guo et al. 2017, equation 5); NaN of none."""
        if not self.count.sum():
            return float("nan")
        gap = np.nan_to_num(np.abs(self.confidence - self.score))
        return float((gap * self.count).sum() / self.count.sum())


def reliability(confidence: Floats, score: Floats, bins: int = 10) -> Reliability:
    """Both flat and of one length; answers without a stated confidence (NaN) are left out."""
    stated = ~np.isnan(confidence)
    confidence, score = confidence[stated], score[stated]
    at = np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
    count = np.bincount(at, minlength=bins)
    known = count > 0

    def mean(values: Floats) -> Floats:
        out = np.full(bins, np.nan)
        out[known] = np.bincount(at, values, bins)[known] / count[known]
        return out

    return Reliability(np.linspace(0.0, 1.0, bins + 1), count, mean(confidence), mean(score))


@dataclass(frozen=True)
class Failures:
    """Shares of the queries; with the share answered rightly they sum to 1.

    recall: a model of the pool was right and none that was right was asked.
    selection: a model that was right was asked, and a wrong answer was handed over.
    beyond_pool: no model of the pool was right.
    """

    recall: float
    selection: float
    beyond_pool: float


def failures(
    score_QM: Floats, called_QM: Bools, answer_from_Q: Ints, own_score_Q: Floats | None = None
) -> Failures:
    """score_QM: NaN where the model was never asked. answer_from_Q: -1 where nothing was handed over.

    own_score_Q: of answers in the policy's own words, NaN where it gave none.
    """
    right_QM = np.nan_to_num(score_QM) >= RIGHT
    handed_over = (answer_from_Q >= 0) & right_QM[np.arange(len(right_QM)), np.maximum(answer_from_Q, 0)]
    if own_score_Q is not None:
        handed_over |= np.nan_to_num(own_score_Q) >= RIGHT
    possible, asked = right_QM.any(1), (right_QM & called_QM).any(1)
    wrong = ~handed_over
    return Failures(
        recall=float((wrong & possible & ~asked).mean()),
        selection=float((wrong & asked).mean()),
        beyond_pool=float((wrong & ~possible).mean()),
    )
