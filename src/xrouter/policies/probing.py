"""A new model joins by a few dozen probe questions: its profile is read off the profiles of the models known.

Axes: P probes, N profiled models, K = N + 1 directions, D text features.

Bayesian linear regression in the space that the known models span: the new model's skill is their mean, plus a level
of its own, plus a weighted sum of how each of them differs from that mean, all weights Gaussian (Rasmussen and
Williams, 2006, section 2.1). With no probe that is the mean at the expected level; each known model is one draw of the
prior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..catalog.model import Model
from ..errors import DataError
from .profiles import AS_ESTIMATED, Profiles, shrunk_spread
from .states import Floats

SCORE_NOISE = 0.15
"""Variance of one score around its chance."""
TOKENS_NOISE = 0.3
"""Variance of the logarithm of one answer's length around its expectation."""
SKILL_LEVEL = 0.1**2
TOKENS_LEVEL = 0.7**2
"""Prior variance of the new model's own level: of its score, and of its log length."""


@dataclass(frozen=True, eq=False)
class Probes:
    """What a model did on probe questions. text_PD: the encoder's features of the prompts.

    score_P: 0..1. tokens_P: output tokens. prompt_tokens_P: as the model counted them; estimate_P: as estimated.
    """

    text_PD: Floats
    score_P: Floats
    tokens_P: Floats
    prompt_tokens_P: Floats
    estimate_P: Floats

    def __len__(self) -> int:
        return len(self.score_P)


def add_model(profiles: Profiles, model: Model, probes: Probes) -> Profiles:
    """The profiles with this model among them, replacing what was known of it. Raises DataError without a probe."""
    return add_models(profiles, [(model, probes)])


def add_models(profiles: Profiles, probed: Sequence[tuple[Model, Probes]]) -> Profiles:
    """`add_model` for several at once; none is read off another, so their order does not matter."""
    for model, probes in probed:
        if not len(probes):
            raise DataError(f"model {model.name!r} has no probe: at least one graded answer is needed")
    known = _without(profiles, {model.name for model, _ in probed})
    if not known.names:
        raise DataError("the policy knows no other model to compare the new one with")
    rows = [_row(known, model, probes) for model, probes in probed]
    return replace(
        known,
        names=(*known.names, *(model.name for model, _ in probed)),
        skill_ND=_joined(known.skill_ND, [row.skill_D for row in rows]),
        tokens_ND=_joined(known.tokens_ND, [row.tokens_D for row in rows]),
        tokens_scale_N=_joined(known.tokens_scale_N, [row.tokens_scale for row in rows]),
        tokens_spread_N=_joined(known.tokens_spread_N, [row.tokens_spread for row in rows]),
        prompt_N2=_joined(known.prompt_N2, [row.prompt_2 for row in rows]),
        loadings_NE=_joined(known.loadings_NE, [known.loadings_NE.mean(0) for _ in rows]),
    )


@dataclass(frozen=True, eq=False)
class _Row:
    skill_D: Floats
    tokens_D: Floats
    tokens_scale: float
    tokens_spread: float
    prompt_2: NDArray[np.float32]


def _row(known: Profiles, model: Model, probes: Probes) -> _Row:
    skill_ND, tokens_ND = known.skill_ND, known.tokens_ND
    level = known.expected_skill(model) - float(known.typical_D @ skill_ND.mean(0))
    skill_D = posterior_row(skill_ND, probes.text_PD, probes.score_P, level, SCORE_NOISE, SKILL_LEVEL)

    log_tokens = np.log(np.maximum(probes.tokens_P, 1.0))
    typical = float(known.typical_D @ tokens_ND.mean(0))
    length = float(np.log(known.expected_tokens(model))) - typical
    tokens_D = posterior_row(tokens_ND, probes.text_PD, log_tokens, length, TOKENS_NOISE, TOKENS_LEVEL)
    predicted = np.exp(np.clip(probes.text_PD @ tokens_D, 0.0, 11.0))
    squares = float(((log_tokens - np.log(predicted)) ** 2).sum())
    spread = float(shrunk_spread(squares, len(probes), float(np.mean(known.tokens_spread_N**2))))
    scale = float(probes.tokens_P.sum() / max(float(predicted.sum()), 1e-9))

    counted = bool(probes.prompt_tokens_P.any())
    factor = float(probes.prompt_tokens_P.sum() / max(float(probes.estimate_P.sum()), 1e-9))
    return _Row(
        skill_D, tokens_D, scale, spread, np.array([0.0, factor], np.float32) if counted else AS_ESTIMATED
    )


def _without(profiles: Profiles, names: set[str]) -> Profiles:
    kept = np.array([name not in names for name in profiles.names], bool)
    return replace(
        profiles,
        names=tuple(name for name in profiles.names if name not in names),
        skill_ND=profiles.skill_ND[kept],
        tokens_ND=profiles.tokens_ND[kept],
        tokens_scale_N=profiles.tokens_scale_N[kept],
        tokens_spread_N=profiles.tokens_spread_N[kept],
        prompt_N2=profiles.prompt_N2[kept],
        loadings_NE=profiles.loadings_NE[kept],
    )


def _joined(
    known: NDArray[np.float32], rows: Sequence[Floats | NDArray[np.float32] | float]
) -> NDArray[np.float32]:
    return np.concatenate([known, np.array(rows, np.float32)])


def posterior_row(
    rows_ND: NDArray[np.floating],
    text_PD: Floats,
    target_P: Floats,
    level: float,
    noise: float,
    level_variance: float,
) -> Floats:
    """Posterior mean of the new model's row of weights. level: expected shift from the known models' mean.

    noise: variance of one target. The first text feature is the constant.
    """
    rows = np.asarray(rows_ND, np.float64)
    mean_D = rows.mean(0)
    expected_D = mean_D.copy()
    expected_D[0] += level
    own_level_1D = np.sqrt(level_variance) * np.eye(1, rows.shape[1])
    directions_KD = np.concatenate([(rows - mean_D) / np.sqrt(len(rows)), own_level_1D])
    design_PK = text_PD @ directions_KD.T
    precision_KK = design_PK.T @ design_PK + noise * np.eye(len(directions_KD))
    weight_K = np.linalg.solve(precision_KK, design_PK.T @ (target_P - text_PD @ expected_D))
    row_D: Floats = expected_D + weight_K @ directions_KD
    return row_D
