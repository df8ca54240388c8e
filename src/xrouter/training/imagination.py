"""Outcomes drawn from the model by which the policy infers who is right: more worlds than were recorded.

Axes: B episodes, M models.

A policy that sees the same few thousand outcomes hundreds of times learns them by heart. Here a query keeps its
prompt, prices and answer lengths, and who is right and which answers are equal is drawn anew (see
`policies.inference` for the model), as model-based reinforcement learning does (Sutton's Dyna, 1991).
"""

from __future__ import annotations

import numpy as np

from ..policies.features import Prior
from ..policies.inference import same_as_concentration, steepness
from ..policies.odds import logit, sigmoid
from ..policies.states import Bools, Floats, Ints


def imagine(prior: Prior, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """(score_BM of 0 and 1, answer_BM): one world for each row of the prior."""
    B, M = prior.chance_BM.shape
    ease_BE = rng.standard_normal((B, prior.loadings_ME.shape[1]))
    logit_BM = steepness(prior.loadings_ME) * logit(prior.chance_BM) + ease_BE @ prior.loadings_ME.T
    right_BM = rng.random((B, M)) < sigmoid(logit_BM)
    wrong_B, right_B = same_as_concentration(prior.same_B2[:, 0], prior.same_B2[:, 1])
    answer_BM = np.where(
        right_BM, 2 * seated(right_BM, right_B, rng), 2 * seated(~right_BM, wrong_B, rng) + 1
    )
    return right_BM.astype(np.float64), answer_BM


def seated(member_BM: Bools, concentration_B: Floats, rng: np.random.Generator) -> Ints:
    """Classes of the members by a Chinese restaurant process: each joins an earlier member, or opens a class."""
    B, M = member_BM.shape
    class_BM = np.tile(np.arange(M), (B, 1))
    for m in range(1, M):
        earlier_BM = member_BM[:, :m]
        count_B = earlier_BM.sum(1)
        joins_B = member_BM[:, m] & (rng.random(B) * (concentration_B + count_B) < count_B)
        whom_B = np.where(earlier_BM, rng.random((B, m)), -1.0).argmax(1)
        class_BM[:, m] = np.where(joins_B, class_BM[np.arange(B), whom_B], m)
    return class_BM
