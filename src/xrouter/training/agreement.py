"""Fits what `policies.inference` needs of a set of outcomes: how often equals agree, and who errs
with whom.

Axes: Q queries, M models, D text features, G quadrature nodes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..policies.inference import EASE_DIMENSIONS, quadrature
from ..policies.states import Bools, Floats, Ints

RIDGE = 3.0
UNSEEN_SAME = (0.25, 1.0)
"""P(equal | both wrong) and P(equal | both right) where no set shows any; worth `UNSEEN_PAIRS` pairs of answers."""
UNSEEN_PAIRS = 10.0
FIRST_LOADINGS = (1.2, 0.3)
LOADING_STEPS, LOADING_BATCH, LOADING_PENALTY = 250, 512, 0.02
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


def fit_same(text_QD: NDArray[np.floating], score_QM: Floats, answer_QM: Ints) -> NDArray[np.float64]:
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


def fit_loadings(prior_QM: Floats, score_QM: Floats, present_QM: Bools) -> Floats:
    """loadings_NE of `Profiles`: those under which the recorded rights and wrongs are likeliest, drawn together
    towards their mean so that a model with few outcomes gets it.

    prior_QM: honest (cross-fitted) chances strictly inside 0..1.
    """
    nodes_GE, log_weight_G = (torch.tensor(values, dtype=torch.float32) for values in quadrature())
    prior = torch.tensor(np.log(prior_QM / (1.0 - prior_QM)), dtype=torch.float32)
    present = torch.tensor(present_QM)
    right = torch.tensor(present_QM & (np.nan_to_num(score_QM) > RIGHT), dtype=torch.float32)
    draws = torch.Generator().manual_seed(0)
    models = prior.shape[1]
    loadings = torch.tensor(FIRST_LOADINGS).repeat(models, 1) + 0.1 * torch.randn(
        models, EASE_DIMENSIONS, generator=draws
    )
    loadings.requires_grad_()
    optimizer = torch.optim.Adam([loadings], lr=0.05)
    for _ in range(LOADING_STEPS):
        rows = torch.randint(0, len(prior), (LOADING_BATCH,), generator=draws)
        stretch = torch.sqrt(1.0 + 0.346 * (loadings**2).sum(1))
        logit = (stretch * prior[rows])[:, :, None] + loadings @ nodes_GE.T
        log_p = right[rows][:, :, None] * logit - torch.nn.functional.softplus(logit)
        evidence = torch.logsumexp((log_p * present[rows][:, :, None]).sum(1) + log_weight_G, 1).mean()
        apart = ((loadings - loadings.mean(0)) ** 2).sum()
        optimizer.zero_grad()
        loss = LOADING_PENALTY * apart - evidence
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    fitted: Floats = loadings.detach().numpy().astype(np.float64)
    return fitted
