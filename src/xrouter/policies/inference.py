"""Which answers are right, given who gave which: exact inference in a small model of how models err.

Axes: B episodes, M models, E ease dimensions, G quadrature nodes, K classes of equal answers, T subsets of classes.

The model: a query has a hidden ease e ~ N(0, I) of two dimensions; model m is right with probability
sigmoid(sqrt(1 + 0.346 |l_m|^2) logit(prior_m) + l_m . e), independently given e, so that the mean over e is its
prior (MacKay's approximation of the logistic-normal integral, 1992). Models with like loadings l_m err together, and
their agreement counts for less. Right answers fall into classes as in a Chinese
restaurant process (Ewens, 1972) whose pairs are equal with probability `same_right`; wrong ones likewise with
`same_wrong`. A class is right or wrong as a whole. Item response models with answer clusters are the
nearest relatives (Whitehill et al., 2009).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .odds import sigmoid
from .states import Bools, Floats, Ints

EASE_DIMENSIONS = 2
NODES = 5
"""Of the quadrature, in each dimension."""
MAX_CLASSES = 6
"""Classes weighed against one another; of more, those with the least support are taken as wrong."""
MIN_SAME, MAX_SAME_WRONG, MAX_SAME_RIGHT = 0.01, 0.95, 0.9995


@dataclass(frozen=True, eq=False)
class Inference:
    """chance_BM: probability that each model's answer is right, whether it was asked or not.

    after_BM: expected probability that the best answer is right once m is asked too; for a model that has answered,
    or where there are no answers yet, its chance.
    """

    chance_BM: Floats
    after_BM: Floats


def infer(
    prior_BM: Floats, answer_BM: Ints, same_wrong_B: Floats, same_right_B: Floats, loadings_ME: Floats
) -> Inference:
    """prior_BM: logits. answer_BM: class of equal answers, -1 where there is none (yet)."""
    answered_BM = answer_BM >= 0
    chance_BM = sigmoid(prior_BM)
    after_BM = chance_BM.copy()
    if not answered_BM.any():
        return Inference(chance_BM, after_BM)
    first_BM = _first_of_class(answer_BM, answered_BM)
    classes_B = first_BM.sum(1)
    wrong_B, right_B = same_as_concentration(same_wrong_B, same_right_B)
    for count in range(1, int(classes_B.max()) + 1):
        rows = np.flatnonzero(classes_B == count)
        if len(rows):
            chance_BM[rows], after_BM[rows] = _weigh(
                prior_BM[rows],
                answer_BM[rows],
                first_BM[rows],
                min(count, MAX_CLASSES),
                wrong_B[rows],
                right_B[rows],
                loadings_ME,
            )
    return Inference(chance_BM, after_BM)


def same_as_concentration(same_wrong_B: Floats, same_right_B: Floats) -> tuple[Floats, Floats]:
    """(wrong_B, right_B): the processes' concentrations, under which two members are equal this often."""
    wrong_B: Floats = 1.0 / np.clip(same_wrong_B, MIN_SAME, MAX_SAME_WRONG) - 1.0
    right_B: Floats = 1.0 / np.clip(same_right_B, MIN_SAME, MAX_SAME_RIGHT) - 1.0
    return wrong_B, right_B


def steepness(loadings_ME: Any) -> Any:
    """By how much a model's prior logit is stretched, so that averaging over ease gives the prior back; of NumPy's
    arrays and torch's alike."""
    return (1.0 + 0.346 * (loadings_ME**2).sum(1)) ** 0.5


def _first_of_class(answer_BM: Ints, answered_BM: Bools) -> Bools:
    """The first model of each class of equal answers."""
    earlier = np.tri(answer_BM.shape[1], k=-1, dtype=bool)
    same = (answer_BM[:, :, None] == answer_BM[:, None, :]) & earlier
    first_BM: Bools = answered_BM & ~same.any(2)
    return first_BM


def _weigh(
    prior_BM: Floats,
    answer_BM: Ints,
    first_BM: Bools,
    K: int,
    wrong_B: Floats,
    right_B: Floats,
    loadings_ME: Floats,
) -> tuple[Floats, Floats]:
    """(chance, after) of episodes with at least K classes, of which K are weighed."""
    nodes_GE, log_weight_G = quadrature()
    answered_BM = answer_BM >= 0
    logit_BMG = (steepness(loadings_ME) * prior_BM)[:, :, None] + loadings_ME @ nodes_GE.T
    support_BM = np.where(first_BM, _support(prior_BM, answer_BM, answered_BM), -np.inf)
    chosen_BK = np.argsort(-support_BM, axis=1, kind="stable")[:, :K]
    class_BK = np.take_along_axis(answer_BM, chosen_BK, 1)
    member_BKM = (answer_BM[:, None, :] == class_BK[:, :, None]) & answered_BM[:, None, :]
    size_BK = member_BKM.sum(2)
    answers_B = answered_BM.sum(1)

    right_TK = subsets(K)
    odds_BKG = member_BKM.astype(np.float64) @ logit_BMG
    all_wrong_BG = -(np.logaddexp(0.0, logit_BMG) * answered_BM[:, :, None]).sum(1) + log_weight_G
    right_BT = size_BK @ right_TK.T.astype(np.int64)
    classes_B, right_T = first_BM.sum(1), right_TK.sum(1)
    seats = _log_rising(np.stack([right_B, wrong_B]), int(answers_B.max()))
    rows = np.arange(len(answer_BM))[:, None]
    split_BT = (
        right_T * np.log(right_B)[:, None]
        + (classes_B[:, None] - right_T) * np.log(wrong_B)[:, None]
        - seats[0][rows, right_BT]
        - seats[1][rows, answers_B[:, None] - right_BT]
    )
    log_BTG = right_TK @ odds_BKG + split_BT[:, :, None] + all_wrong_BG[:, None, :]
    weight_BTG = np.exp(log_BTG - log_BTG.max((1, 2), keepdims=True))
    weight_BTG /= weight_BTG.sum((1, 2), keepdims=True)

    chance_BMG = sigmoid(logit_BMG)
    weight_BT = weight_BTG.sum(2)
    by_class_BK = weight_BT @ right_TK
    both_right_BTM = weight_BTG @ chance_BMG.transpose(0, 2, 1)
    asked_BM = (member_BKM * by_class_BK[:, :, None]).sum(1)
    chance_BM = np.where(answered_BM, asked_BM, both_right_BTM.sum(1))
    after_BM = _after_one_more(
        right_TK, size_BK, answers_B, right_BT, right_B, wrong_B, weight_BT, both_right_BTM
    )
    return chance_BM, np.where(answered_BM, chance_BM, after_BM)


def _after_one_more(
    right_TK: Floats,
    size_BK: Ints,
    answers_B: Ints,
    right_BT: Ints,
    right_B: Floats,
    wrong_B: Floats,
    weight_BT: Floats,
    model_right_BTM: Floats,
) -> Floats:
    """The best class's expected chance after m's answer, over what m may say: one of the classes, or something new."""
    B, T = weight_BT.shape
    K = right_TK.shape[1]
    free_right = 1.0 / (right_B[:, None] + right_BT)
    free_wrong = 1.0 / (wrong_B[:, None] + answers_B[:, None] - right_BT)
    says_if_right = np.empty((B, K + 1, T))
    says_if_wrong = np.empty((B, K + 1, T))
    says_if_right[:, :K] = (right_TK.T * size_BK[:, :, None]) * free_right[:, None, :]
    says_if_wrong[:, :K] = ((1.0 - right_TK.T) * size_BK[:, :, None]) * free_wrong[:, None, :]
    says_if_right[:, K] = right_B[:, None] * free_right
    elsewhere_B = wrong_B + answers_B - size_BK.sum(1)  # something new, or one of the classes not weighed
    says_if_wrong[:, K] = elsewhere_B[:, None] * free_wrong
    model_wrong_BTM = weight_BT[:, :, None] - model_right_BTM
    given = right_TK.T[None, None]  # the class that is right, beside each thing m may say
    joint = (says_if_right[:, :, None, :] * given).reshape(B, -1, T) @ model_right_BTM
    joint += (says_if_wrong[:, :, None, :] * given).reshape(B, -1, T) @ model_wrong_BTM
    best = joint.reshape(B, K + 1, K, -1).max(2)
    new_and_right = (says_if_right[:, K:] @ model_right_BTM)[:, 0]
    best[:, K] = np.maximum(best[:, K], new_and_right)
    after: Floats = best.sum(1)
    return after


def _support(prior_BM: Floats, answer_BM: Ints, answered_BM: Bools) -> Floats:
    """Summed prior odds behind each model's answer: a quick ranking of the classes."""
    same = (answer_BM[:, :, None] == answer_BM[:, None, :]) & answered_BM[:, None, :]
    support_BM: Floats = (same @ np.logaddexp(0.0, prior_BM)[:, :, None])[:, :, 0]
    return support_BM


def _log_rising(alpha: Floats, count: int) -> Floats:
    """log of alpha (alpha + 1) ... (alpha + n - 1) for n = 0..count, on a new last axis."""
    steps = np.log(alpha[..., None] + np.arange(count))
    return np.concatenate([np.zeros((*alpha.shape, 1)), np.cumsum(steps, -1)], -1)


@cache
def quadrature() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(nodes_GE, log_weight_G) of the standard normal in `EASE_DIMENSIONS`: a product of Gauss-Hermite rules."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    log_weights = np.log(weights / weights.sum())
    grid = np.stack(np.meshgrid(*[nodes] * EASE_DIMENSIONS, indexing="ij"), -1)
    log_grid = np.stack(np.meshgrid(*[log_weights] * EASE_DIMENSIONS, indexing="ij"), -1)
    return grid.reshape(-1, EASE_DIMENSIONS), log_grid.sum(-1).reshape(-1)


@cache
def subsets(K: int) -> NDArray[np.float64]:
    """Every subset of K classes as a row of zeros and ones."""
    return ((np.arange(2**K)[:, None] >> np.arange(K)) & 1).astype(np.float64)
