"""Fits model profiles on outcomes: ridge regressions on the text features, closed form.

Axes: Q queries, M models, D text features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..catalog.model import Model
from ..policies.profiles import Profiles, descriptors

Floats = NDArray[np.float64]
SKILL_RIDGE = 5.0
TOKENS_RIDGE = 5.0


def ridge(features_QD: Floats, target_QM: Floats, present_QM: NDArray[np.bool_], penalty: float) -> Floats:
    """Weights [M, D] of the penalised least squares of each column on its present rows.

    The first feature is the constant; it is left unpenalised by fitting around the column's mean.
    """
    weights = np.zeros((target_QM.shape[1], features_QD.shape[1]))
    identity = penalty * np.eye(features_QD.shape[1])
    groups: dict[bytes, list[int]] = {}
    for column in range(target_QM.shape[1]):
        groups.setdefault(present_QM[:, column].tobytes(), []).append(column)
    for columns in groups.values():
        rows = present_QM[:, columns[0]]
        if not rows.any():
            continue
        features, target = features_QD[rows], target_QM[rows][:, columns]
        mean = target.mean(0)
        weights[columns] = np.linalg.solve(features.T @ features + identity, features.T @ (target - mean)).T
        weights[columns, 0] += mean
    return weights


def fit_profiles(
    models: Sequence[Model],
    text_QD: NDArray[np.floating],
    score_QM: Floats,
    tokens_QM: Floats,
    prompt_tokens_QM: Floats,
    present_QM: NDArray[np.bool_],
    estimate_Q: Floats,
) -> Profiles:
    """Profiles of all models from one table of outcomes. score_QM is NaN where absent.

    prompt_tokens_QM: as the models counted them; estimate_Q: as estimated from the text.
    """
    features = np.asarray(text_QD, np.float64)
    score = np.nan_to_num(score_QM)
    log_tokens = np.log(np.maximum(tokens_QM, 1.0))
    skill_MD = ridge(features, score, present_QM, SKILL_RIDGE)
    tokens_MD = ridge(features, log_tokens, present_QM, TOKENS_RIDGE)
    predicted = np.exp(np.clip(features @ tokens_MD.T, 0.0, 11.0))
    counts = np.maximum(present_QM.sum(0), 1)
    scale_M = (tokens_QM * present_QM).sum(0) / np.maximum((predicted * present_QM).sum(0), 1e-9)
    mean_score_M = (score * present_QM).sum(0) / counts
    described = np.array([descriptors(model) for model in models], np.float64)
    descriptor_weights = np.linalg.solve(
        described.T @ described + 0.5 * np.eye(described.shape[1]), described.T @ mean_score_M
    )
    return Profiles(
        names=tuple(model.name for model in models),
        skill_ND=skill_MD.astype(np.float32),
        tokens_ND=tokens_MD.astype(np.float32),
        tokens_scale_N=scale_M.astype(np.float32),
        prompt_N2=np.array(
            [
                prompt_line(estimate_Q[present], counted[present])
                for counted, present in zip(prompt_tokens_QM.T, present_QM.T, strict=True)
            ],
            np.float32,
        ),
        typical_D=features.mean(0).astype(np.float32),
        typical_prompt_tokens=float(np.mean(estimate_Q)),
        descriptor_weights=descriptor_weights.astype(np.float32),
    )


def prompt_line(estimate: Floats, counted: Floats) -> tuple[float, float]:
    """(overhead, factor) of the least-squares line counted = overhead + factor * estimate, neither below 0.

    (0, 1) where nothing was counted.
    """
    if not counted.any():
        return 0.0, 1.0
    spread = float(np.var(estimate))
    factor = float(np.cov(estimate, counted, bias=True)[0, 1]) / spread if spread > 0 else 0.0
    overhead = float(counted.mean()) - factor * float(estimate.mean())
    if factor < 0:
        return float(counted.mean()), 0.0
    if overhead < 0:
        return 0.0, float(counted.mean()) / max(float(estimate.mean()), 1e-9)
    return overhead, factor


def cross_fitted_skill(
    text_QD: NDArray[np.floating],
    score_QM: Floats,
    present_QM: NDArray[np.bool_],
    *,
    prompts: Sequence[str] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Floats:
    """Each query's predicted scores from profiles that did not see it: the honest inputs to train a policy on.

    prompts: where given, queries with the same prompt are held out together.
    """
    features = np.asarray(text_QD, np.float64)
    number: dict[str, int] = {}
    group_Q = [number.setdefault(prompt, len(number)) for prompt in prompts or ()] or range(len(features))
    fold_Q = (np.random.default_rng(seed).permutation(max(group_Q) + 1) % folds)[group_Q]
    predicted = np.zeros_like(score_QM)
    score = np.nan_to_num(score_QM)
    for fold in range(folds):
        held_out = fold_Q == fold
        weights = ridge(features[~held_out], score[~held_out], present_QM[~held_out], SKILL_RIDGE)
        predicted[held_out] = features[held_out] @ weights.T
    return predicted
