"""`inference.infer` for one episode: the same formulas without the batch axis. Axes as there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import log

import numpy as np

from .inference import MAX_CLASSES, MAX_SAME_RIGHT, MAX_SAME_WRONG, MIN_SAME, quadrature, subsets
from .odds import logit, sigmoid
from .states import Floats


def infer_one(
    prior_M: Floats,
    responded: Sequence[int],
    answers: Sequence[int],
    same_wrong: float,
    same_right: float,
    stretch_M1: Floats,
    ease_MG: Floats,
) -> tuple[Floats, Floats, Floats]:
    """(chance_M, chance_logit_M, after_M) of `inference.Inference`.

    prior_M: logits. responded: models that responded, ascending, and `answers` their classes, -1 for none.
    stretch_M1, ease_MG: of `profiles.PoolProfile`.
    """
    members: dict[int, list[int]] = {}
    for model, answer in zip(responded, answers, strict=True):
        if answer >= 0:
            members.setdefault(answer, []).append(model)
    if not members:
        chance_M = sigmoid(prior_M)
        return chance_M, prior_M, chance_M
    classes = list(members.values())
    answered = [model for group in classes for model in group]
    if len(classes) > MAX_CLASSES:
        odds_M = np.logaddexp(0.0, prior_M)
        classes.sort(key=lambda group: -odds_M[group].sum())
        classes = classes[:MAX_CLASSES]
    K = len(classes)
    right_TK = subsets(K)
    right_KT = right_TK.T
    size_K1 = np.array([[float(len(group))] for group in classes])
    right_T = right_TK.dot(size_K1)[:, 0]

    logit_MG = stretch_M1 * prior_M[:, None] + ease_MG
    wrong = 1.0 / min(max(same_wrong, MIN_SAME), MAX_SAME_WRONG) - 1.0
    right = 1.0 / min(max(same_right, MIN_SAME), MAX_SAME_RIGHT) - 1.0
    split_T = _split(right_T.tolist(), right_TK.sum(1).tolist(), len(members), len(answered), right, wrong)
    all_wrong_G = quadrature()[1] - np.logaddexp(0.0, logit_MG[answered]).sum(0)
    odds_KG = np.array(
        [logit_MG[group].sum(0) if len(group) > 1 else logit_MG[group[0]] for group in classes]
    )
    weight_TG = right_TK.dot(odds_KG) + all_wrong_G
    weight_TG += np.array(split_T)[:, None]
    weight_TG -= weight_TG.max()
    np.exp(weight_TG, out=weight_TG)
    weight_TG /= weight_TG.sum()

    weight_T = weight_TG.sum(1)
    model_right_TM = weight_TG.dot(sigmoid(logit_MG).T)
    model_wrong_TM = weight_T[:, None] - model_right_TM
    chance_M = model_right_TM.sum(0)
    chance_M[answered] = 0.0
    for group, chance in zip(classes, weight_T.dot(right_TK).tolist(), strict=True):
        chance_M[group] = chance

    after_M = _after_one_more(
        right_KT, size_K1, right_T, len(answered), right, wrong, model_right_TM, model_wrong_TM
    )
    after_M[answered] = chance_M[answered]
    return chance_M, logit(np.minimum(np.maximum(chance_M, 1e-6), 1.0 - 1e-6)), after_M


def _split(
    right_T: Sequence[float],
    right_classes_T: Sequence[float],
    classes: int,
    answers: int,
    right: float,
    wrong: float,
) -> list[float]:
    """Log probability that the right and the wrong answers fall into their classes, but for what all subsets share.

    right_T, right_classes_T: right answers, and classes, of each subset.
    """
    log_right, log_wrong = log(right), log(wrong)
    right_seats, wrong_seats = _log_rising(right, answers), _log_rising(wrong, answers)
    return [
        n * log_right + (classes - n) * log_wrong - right_seats[int(size)] - wrong_seats[answers - int(size)]
        for size, n in zip(right_T, right_classes_T, strict=True)
    ]


def _log_rising(alpha: float, count: int) -> list[float]:
    """log of alpha (alpha + 1) ... (alpha + n - 1) for n = 0..count."""
    return [0.0, *accumulate(log(alpha + n) for n in range(count))]


def _after_one_more(
    right_KT: Floats,
    size_K1: Floats,
    right_T: Floats,
    answers: int,
    right: float,
    wrong: float,
    model_right_TM: Floats,
    model_wrong_TM: Floats,
) -> Floats:
    """The best class's expected chance after each model's answer, as `inference` has it."""
    K, T = right_KT.shape
    free_right_T, free_wrong_T = 1.0 / (right + right_T), 1.0 / (wrong + answers - right_T)
    if_right_T, if_wrong_T = (
        np.empty((K + 1, T)),
        np.empty((K + 1, T)),
    )  # what is said, one of K classes or new
    if_right_T[:K] = right_KT * size_K1 * free_right_T
    if_right_T[K] = right * free_right_T
    if_wrong_T[:K] = (1.0 - right_KT) * size_K1 * free_wrong_T
    if_wrong_T[K] = (wrong + answers - size_K1.sum()) * free_wrong_T
    joint = (if_right_T[:, None] * right_KT).reshape(-1, T).dot(model_right_TM)
    joint += (if_wrong_T[:, None] * right_KT).reshape(-1, T).dot(model_wrong_TM)
    best = joint.reshape(K + 1, K, -1).max(1)
    np.maximum(best[K], if_right_T[K].dot(model_right_TM), out=best[K])
    after_M: Floats = best.sum(0)
    return after_M
