"""Fits what `policies.inference` needs of a set of outcomes: how often equals agree, and who errs
with whom.

Axes: Q queries, M models, D text features, G quadrature nodes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..policies.inference import EASE_DIMENSIONS, quadrature, steepness
from ..policies.odds import logit
from ..policies.states import Bools, Floats, Ints

RIDGE = 3.0
UNSEEN_SAME = (0.25, 1.0)
"""P(equal | both wrong) and P(equal | both right) where no set shows any; worth `UNSEEN_PAIRS` pairs of answers."""
UNSEEN_PAIRS = 10.0
FIRST_LOADINGS = (1.2, 0.3)
LOADING_STEPS, LOADING_BATCH, LOADING_PENALTY = 250, 512, 0.02
STRENGTH = 6.0
"""How fast a model's weight falls with its mean score: by a half for every 0.12 below the best."""
RIGHT = 0.5
"""A score above this counts as right."""


def agreeing_pairs(
    score_QM: Floats, answer_QM: Ints, *, right: bool, weight_M: Floats | None = None
) -> tuple[Floats, Floats]:
    """Per query, the pairs of answers that are both right (or both wrong): how many are equal, and how many there are.

    A pair counts as the product of its models' weights; 1 without them.
    """
    side_QM = (answer_QM >= 0) & ((score_QM > RIGHT) == right) & ~np.isnan(score_QM)
    weight_QM = np.where(side_QM, 1.0 if weight_M is None else weight_M, 0.0)
    equal_Q = np.zeros(len(score_QM))
    for of_class in range(int(answer_QM.max(initial=0)) + 1):
        equal_Q += _pairs(np.where(answer_QM == of_class, weight_QM, 0.0))
    return equal_Q, _pairs(weight_QM)


def _pairs(weight_QM: Floats) -> Floats:
    pairs_Q: Floats = (weight_QM.sum(1) ** 2 - (weight_QM**2).sum(1)) / 2.0
    return pairs_Q


def fit_same(text_QD: NDArray[np.floating], score_QM: Floats, answer_QM: Ints) -> NDArray[np.float64]:
    """same_2D of `Profiles`: ridge regressions of each query's share of equal pairs, weighted by its pairs.

    Strong models count for more: they are asked together most often, and are wrong in the same way more often.
    """
    features = np.asarray(text_QD, np.float64)
    mean_M = np.nan_to_num(np.nansum(score_QM, 0) / np.maximum((~np.isnan(score_QM)).sum(0), 1))
    weight_M = np.exp(STRENGTH * (mean_M - mean_M.max()))
    rows = []
    for right, unseen in zip((False, True), UNSEEN_SAME, strict=True):
        equal_Q, pairs_Q = agreeing_pairs(score_QM, answer_QM, right=right, weight_M=weight_M)
        mean = (equal_Q.sum() + unseen * UNSEEN_PAIRS) / (pairs_Q.sum() + UNSEEN_PAIRS)
        weight_Q = pairs_Q / max(float(pairs_Q.max(initial=0.0)), 1e-9)
        share_Q = np.where(pairs_Q > 1e-9, equal_Q / np.maximum(pairs_Q, 1e-9), mean)
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
    prior = torch.tensor(logit(prior_QM), dtype=torch.float32)
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
        logits = (steepness(loadings) * prior[rows])[:, :, None] + loadings @ nodes_GE.T
        log_p = right[rows][:, :, None] * logits - torch.nn.functional.softplus(logits)
        evidence = torch.logsumexp((log_p * present[rows][:, :, None]).sum(1) + log_weight_G, 1).mean()
        apart = ((loadings - loadings.mean(0)) ** 2).sum()
        optimizer.zero_grad()
        loss = LOADING_PENALTY * apart - evidence
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    fitted: Floats = loadings.detach().numpy().astype(np.float64)
    return fitted
