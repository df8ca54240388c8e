"""Fits what `policies.inference` needs of a set of outcomes: how often equals agree, and how far ease spreads.

Axes: Q queries, M models, D text features, G quadrature nodes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..policies.inference import quadrature
from ..policies.states import Bools, Floats, Ints

RIDGE = 3.0
UNSEEN_SAME = (0.25, 1.0)
"""P(equal | both wrong) and P(equal | both right) where no set shows any; worth `UNSEEN_PAIRS` pairs of answers."""
UNSEEN_PAIRS = 10.0
SPREADS = np.arange(0.0, 3.01, 0.25)
RIGHT = 0.5
"""A score above this counts as right."""


def agreeing_pairs(score_QM: Floats, answer_QM: Ints, *, right: bool) -> tuple[Floats, Floats]:
    """Per query, the pairs of answers that are both right (or both wrong): how many are equal, and how many there are."""
    side_QM = (answer_QM >= 0) & ((score_QM > RIGHT) == right) & ~np.isnan(score_QM)
    classes = int(answer_QM.max(initial=0)) + 1
    count_Q = side_QM.sum(1)
    equal_Q = np.zeros(len(score_QM))
    for of_class in range(classes):
        size_Q = (side_QM & (answer_QM == of_class)).sum(1)
        equal_Q += size_Q * (size_Q - 1) / 2
    return equal_Q, count_Q * (count_Q - 1) / 2.0


def fit_same(
    text_QD: NDArray[np.floating], score_QM: Floats, answer_QM: Ints
) -> NDArray[np.float64]:
    """same_2D of `Profiles`: ridge regressions of each query's share of equal pairs, weighted by its pairs."""
    features = np.asarray(text_QD, np.float64)
    rows = []
    for right, unseen in zip((False, True), UNSEEN_SAME, strict=True):
        equal_Q, pairs_Q = agreeing_pairs(score_QM, answer_QM, right=right)
        mean = (equal_Q.sum() + unseen * UNSEEN_PAIRS) / (pairs_Q.sum() + UNSEEN_PAIRS)
        weight_Q = pairs_Q / max(float(pairs_Q.max(initial=0.0)), 1.0)
        share_Q = np.where(pairs_Q > 0, equal_Q / np.maximum(pairs_Q, 1.0), mean)
        weighted = features * weight_Q[:, None]
        row = np.linalg.solve(
            weighted.T @ features + RIDGE * np.eye(features.shape[1]), weighted.T @ (share_Q - mean)
        )
        row[0] += mean
        rows.append(row)
    return np.array(rows)


def cross_fitted_same(
    text_QD: NDArray[np.floating], score_QM: Floats, answer_QM: Ints, fold_Q: Ints
) -> Floats:
    """[Q, 2]: each query's rates from fits that did not see it."""
    out = np.empty((len(score_QM), 2))
    for fold in np.unique(fold_Q):
        held = fold_Q == fold
        rows = fit_same(text_QD[~held], score_QM[~held], answer_QM[~held])
        out[held] = np.asarray(text_QD[held], np.float64) @ rows.T
    return np.clip(out, 0.0, 1.0)


def fit_spread(prior_QM: Floats, score_QM: Floats, present_QM: Bools) -> float:
    """The spread of hidden ease under which the recorded rights and wrongs are likeliest.

    prior_QM: honest (cross-fitted) chances strictly inside 0..1.
    """
    nodes_G, log_weight_G = quadrature()
    logit_QM = np.log(prior_QM / (1.0 - prior_QM))
    right_QM = np.where(present_QM, np.nan_to_num(score_QM) > RIGHT, 0.0)[:, :, None]
    likelihood = []
    for spread in SPREADS:
        logit_QMG = (np.sqrt(1.0 + 0.346 * spread**2) * logit_QM)[:, :, None] + spread * nodes_G
        log_QG = ((right_QM * logit_QMG - np.logaddexp(0.0, logit_QMG)) * present_QM[:, :, None]).sum(1)
        joint = log_QG + log_weight_G
        top = joint.max(1, keepdims=True)
        likelihood.append(float((top[:, 0] + np.log(np.exp(joint - top).sum(1))).mean()))
    return float(SPREADS[int(np.argmax(likelihood))])
