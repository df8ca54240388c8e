"""Fits model profiles on outcomes: ridge regressions on the text features, closed form.

Axes: Q queries, M models, D text features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..episodes.cost import estimate_query_tokens
from ..policies.network import NetworkPolicy
from ..policies.profiles import MAX_CHANCE, MIN_CHANCE, Profiles, descriptors, shrunk_spread
from ..policies.states import Bools, Floats, Ints
from ..tasks.outcomes import Outcomes
from .agreement import fit_loadings, fit_same

COMMON_RIDGE = 4.0
OWN_RIDGE = 40.0
"""What a model is better or worse at than the others shows in far fewer outcomes than what is hard for all."""
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


def skill_weights(features_QD: Floats, score_QM: Floats, present_QM: NDArray[np.bool_]) -> Floats:
    """Weights [M, D]: what all models have in common, and how each differs, which is held back more (as in
    hierarchical regression; Gelman and Hill, 2007)."""
    asked_Q1: Bools = np.asarray(present_QM.any(1, keepdims=True))
    asked_M: Bools = np.asarray(present_QM.any(0))
    level_M = (score_QM * present_QM).sum(0) / np.maximum(present_QM.sum(0), 1)
    above_QM = np.where(present_QM, score_QM - level_M, 0.0)
    mean_Q1 = above_QM.sum(1, keepdims=True) / np.maximum(present_QM.sum(1, keepdims=True), 1)
    common_1D = ridge(features_QD, mean_Q1, asked_Q1, COMMON_RIDGE)
    own_MD = ridge(features_QD, score_QM - features_QD @ common_1D.T, present_QM, OWN_RIDGE)
    return np.where(asked_M[:, None], common_1D + own_MD, 0.0)


def fit_profiles(outcomes: Outcomes, text_QD: NDArray[np.floating], *, seed: int = 0) -> Profiles:
    """Profiles of all models of one table of outcomes. text_QD: the encoder's features of its prompts."""
    record = outcomes.recording
    present_QM, tokens_QM = record.present_QM, record.tokens_QM.astype(np.float64)
    estimate_Q = np.array([estimate_query_tokens(prompt) for prompt in record.prompts], np.float64)
    features = np.asarray(text_QD, np.float64)
    score = np.nan_to_num(outcomes.score_QM)
    log_tokens = np.log(np.maximum(tokens_QM, 1.0))
    skill_MD = skill_weights(features, score, present_QM)
    tokens_MD = ridge(features, log_tokens, present_QM, TOKENS_RIDGE)
    predicted = np.exp(np.clip(features @ tokens_MD.T, 0.0, 11.0))
    counts = np.maximum(present_QM.sum(0), 1)
    scale_M = (tokens_QM * present_QM).sum(0) / np.maximum((predicted * present_QM).sum(0), 1e-9)
    mean_score_M = (score * present_QM).sum(0) / counts
    described = np.array([descriptors(model) for model in outcomes.models], np.float64)
    descriptor_weights = np.linalg.solve(
        described.T @ described + 0.5 * np.eye(described.shape[1]), described.T @ mean_score_M
    )
    fold_Q = prompt_folds(record.prompts, seed=seed)
    honest_QM = np.clip(
        cross_fitted_skill(features, outcomes.score_QM, present_QM, fold_Q), MIN_CHANCE, MAX_CHANCE
    )
    return Profiles(
        names=outcomes.model_names,
        skill_ND=skill_MD.astype(np.float32),
        tokens_ND=tokens_MD.astype(np.float32),
        tokens_scale_N=scale_M.astype(np.float32),
        tokens_spread_N=fit_spread(features, log_tokens, present_QM, fold_Q).astype(np.float32),
        prompt_N2=np.array(
            [
                prompt_line(estimate_Q[present], counted[present])
                for counted, present in zip(
                    record.prompt_tokens_QM.T.astype(np.float64), present_QM.T, strict=True
                )
            ],
            np.float32,
        ),
        typical_D=features.mean(0).astype(np.float32),
        typical_prompt_tokens=float(np.mean(estimate_Q)),
        descriptor_weights=descriptor_weights.astype(np.float32),
        same_2D=fit_same(features, outcomes.score_QM, record.answer_QM).astype(np.float32),
        loadings_NE=fit_loadings(honest_QM, outcomes.score_QM, present_QM).astype(np.float32),
    )


def fit_spread(
    features_QD: Floats, log_tokens_QM: Floats, present_QM: NDArray[np.bool_], fold_Q: Ints
) -> Floats:
    """tokens_spread_N of `Profiles`: how far lengths are, in logarithms, from those that fits without their fold predict."""
    square_QM = np.zeros_like(log_tokens_QM)
    for fold in np.unique(fold_Q):
        held = fold_Q == fold
        if held.all():
            continue  # one prompt alone: nothing to predict it from
        weights = ridge(features_QD[~held], log_tokens_QM[~held], present_QM[~held], TOKENS_RIDGE)
        square_QM[held] = (log_tokens_QM[held] - features_QD[held] @ weights.T) ** 2
    square_QM = np.where(present_QM, square_QM, 0.0)
    answers_M = present_QM.sum(0)
    common = float(square_QM.sum() / max(int(answers_M.sum()), 1))
    return shrunk_spread(square_QM.sum(0), answers_M, common)


def add_spread(policy: NetworkPolicy, outcomes: Outcomes, *, seed: int = 0) -> NetworkPolicy:
    """The policy with the spread of lengths fitted on these outcomes, which it was trained on; nothing else changes.

    For checkpoints written before lengths had one. Models that the outcomes do not hold get the common spread.
    """
    record = outcomes.recording
    features = np.asarray(policy.encoder.encode(record.prompts), np.float64)
    log_tokens = np.log(np.maximum(record.tokens_QM.astype(np.float64), 1.0))
    fitted = fit_spread(features, log_tokens, record.present_QM, prompt_folds(record.prompts, seed=seed))
    by_name = dict(zip(outcomes.model_names, fitted.tolist(), strict=True))
    common = float(np.sqrt(np.mean(fitted**2)))
    spread_N = np.array([by_name.get(name, common) for name in policy.profiles.names], np.float32)
    return NetworkPolicy(
        policy.encoder,
        replace(policy.profiles, tokens_spread_N=spread_N),
        policy.parameters,
        policy.payoff,
        calibration=policy.calibration,
        name=policy.name,
        version=policy.version,
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


def prompt_folds(prompts: Sequence[str], *, folds: int = 5, seed: int = 0) -> Ints:
    """A fold for each query; queries with the same prompt share theirs."""
    number: dict[str, int] = {}
    group_Q = [number.setdefault(prompt, len(number)) for prompt in prompts]
    return np.asarray((np.random.default_rng(seed).permutation(len(number)) % folds)[group_Q], np.int64)


def cross_fitted_skill(
    text_QD: NDArray[np.floating], score_QM: Floats, present_QM: NDArray[np.bool_], fold_Q: Ints
) -> Floats:
    """Each query's predicted scores from profiles that did not see its fold: honest inputs to train a policy on."""
    features = np.asarray(text_QD, np.float64)
    predicted = np.zeros_like(score_QM)
    score = np.nan_to_num(score_QM)
    for fold in np.unique(fold_Q):
        held_out = fold_Q == fold
        weights = skill_weights(features[~held_out], score[~held_out], present_QM[~held_out])
        predicted[held_out] = features[held_out] @ weights.T
    return predicted
