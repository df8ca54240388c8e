"""Prepares training sets and regresses the network's values on recorded outcomes, before any policy gradient.

Two supervised targets from the full table of outcomes: whether each model's answer is right (log loss; this is
the calibrated confidence) and what each choice is worth (one-step value regression towards the best next
choice, Watkins' Q-learning on replayed episodes; Sutton and Barto, 2018, section 6.5).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..episodes.cost import estimate_query_tokens
from ..policies.features import COLUMN, Prior
from ..policies.network import Network, forward, value_correction
from ..policies.profiles import MAX_CHANCE, MIN_CHANCE, Profiles
from ..policies.states import Floats
from ..policies.text import TextEncoder
from ..tasks.outcomes import Outcomes
from .agreement import cross_fitted_same
from .episodes import Choices, TrainingSet
from .profiles import cross_fitted_skill, prompt_folds

CHANCE = COLUMN["chance logit"]


def training_set(
    outcomes: Outcomes, encoder: TextEncoder, profiles: Profiles, *, max_turns: int, seed: int
) -> TrainingSet:
    """The replayable set with honest priors: each query's chances come from profiles that did not see it."""
    recording = outcomes.recording
    text_QD = encoder.encode(recording.prompts)
    fold_Q = prompt_folds(recording.prompts, seed=seed)
    chance_QM = cross_fitted_skill(text_QD, outcomes.score_QM, recording.present_QM, fold_Q)
    of_pool = profiles.of_pool(outcomes.models)
    unmeasured = replace(profiles, names=("",) * len(profiles.names)).of_pool(outcomes.models)
    tokens_QM = of_pool.tokens_BM(text_QD)
    prompt_tokens_Q = np.array([estimate_query_tokens(prompt) for prompt in recording.prompts], np.float64)
    prior = Prior(
        chance_BM=np.clip(chance_QM, MIN_CHANCE, MAX_CHANCE),
        tokens_BM=tokens_QM,
        cost_BM=of_pool.cost_BM(tokens_QM, prompt_tokens_Q),
        known_BM=np.ones(chance_QM.shape, bool),
        same_B2=cross_fitted_same(text_QD, outcomes.score_QM, recording.answer_QM, fold_Q),
        loadings_ME=of_pool.loadings_ME,
        reference_cost=of_pool.reference_cost,
        cap_margin_M=of_pool.cap_margin_M,
    )
    return TrainingSet(outcomes, prior, unmeasured.chance_BM(text_QD), max_turns)


def as_network(parameters: dict[str, torch.Tensor]) -> Network:
    """The torch parameters as a NumPy function, without gradients."""

    def network(
        x: NDArray[np.float32], in_pool: NDArray[np.float32], responded: NDArray[np.float32]
    ) -> tuple[Floats, Floats, Floats]:
        with torch.no_grad():
            out = forward(parameters, *(torch.from_numpy(v) for v in (x, in_pool, responded)))
        correct, add, go = (value.numpy() for value in out)
        return correct, add, go

    return network


def corrections(
    parameters: dict[str, torch.Tensor], choices: Choices, rows: NDArray[np.int64]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(correct_NM, value_NA) of recorded choices, differentiable."""
    tensors = (torch.from_numpy(v[rows]) for v in (choices.x_NMF, choices.in_pool_NM1, choices.responded_NM1))
    correct_NM, add_NM, go_N2 = forward(parameters, *tensors)
    listed = torch.from_numpy(choices.listed_N1[rows])
    offset = torch.from_numpy(choices.offset_NA[rows]).float()
    return correct_NM, offset + value_correction(add_NM, go_N2, listed, torch.cat)


def next_values(choices: Choices, reward_N: Floats) -> Floats:
    """What each recorded choice led to: the best value of the episode's next choice, or its reward at the end."""
    return np.where(choices.next_N >= 0, choices.value_NA.max(1)[choices.next_N], reward_N)


def answer_loss(correct_NM: torch.Tensor, choices: Choices, rows: NDArray[np.int64]) -> torch.Tensor:
    """Log loss of P(right) for every model of the pool; models that answered count fully, the others by a third."""
    score = torch.from_numpy(choices.score_NM[rows]).float()
    counted = ~torch.isnan(score)
    responded = torch.from_numpy(choices.responded_NM1[rows])[:, :, 0]
    weight = counted * (1.0 / 3.0 + responded * (2.0 / 3.0))
    chance = torch.from_numpy(choices.x_NMF[rows][:, :, CHANCE])
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        chance + correct_NM, torch.nan_to_num(score), reduction="none"
    )
    return (loss * weight).sum() / weight.sum().clamp(min=1.0)


def value_loss(
    value_NA: torch.Tensor, choices: Choices, rows: NDArray[np.int64], target_N: Floats
) -> torch.Tensor:
    """Squared error of the picked choices' values: the mean is wanted, and scores are 0 or 1."""
    picked = torch.from_numpy(choices.picked_N[rows])
    value = value_NA.gather(1, picked[:, None])[:, 0]
    return torch.nn.functional.mse_loss(value, torch.from_numpy(target_N[rows]).float())
