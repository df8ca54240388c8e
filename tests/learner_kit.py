"""Small learned policies, fitted on made-up outcomes in well under a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from synthetic import synthetic_outcomes

from xrouter.policies.network import NetworkPolicy, Payoff, initial_parameters
from xrouter.policies.states import States
from xrouter.tasks.outcomes import Outcomes
from xrouter.training.config import TrainingConfig
from xrouter.training.encoder import fit_encoder
from xrouter.training.profiles import fit_profiles

torch.set_num_threads(1)  # Equal bits need equal threads, and small tensors are faster on one.


def tiny_config(**changes: Any) -> TrainingConfig:
    settings: dict[str, Any] = {
        "dimensions": 8,
        "landmarks": 8,
        "vocabulary": 300,
        "hidden": 16,
        "warm_steps": 6,
        "warm_batch": 48,
        "dapo_steps": 6,
        "groups": 8,
        "group_size": 4,
        "evaluate_every": 4,
        "validation_share": 0.2,
        "temperature": 0.3,  # Few small groups: they must differ in reward however sure the policy is.
    }
    return TrainingConfig(**(settings | changes))


def noisy_parameters(seed: int, noise: float, hidden: int = 16) -> dict[str, np.ndarray]:
    """Initial parameters moved at random, output layers too: a network with strong and useless opinions."""
    rng = np.random.default_rng(seed)
    return {
        name: (value + noise * rng.standard_normal(value.shape)).astype(np.float32)
        for name, value in initial_parameters(seed, hidden).items()
    }


def fitted_policy(
    outcomes: Outcomes | None = None, *, seed: int = 0, noise: float = 0.1, payoff: Payoff | None = None
) -> NetworkPolicy:
    """Encoder and profiles fitted on the outcomes, the network left as it was drawn."""
    outcomes = synthetic_outcomes() if outcomes is None else outcomes
    record = outcomes.recording
    encoder = fit_encoder(record.prompts, dimensions=8, landmarks=8, vocabulary=300, seed=seed)
    profiles = fit_profiles(outcomes, encoder.encode(record.prompts), seed=seed)
    return NetworkPolicy(encoder, profiles, noisy_parameters(seed, noise), payoff or Payoff(), version="test")


def random_states(rng: np.random.Generator, models: tuple[Any, ...], batch: int) -> States:
    """Any situation an episode can be in, likely or not: nothing allowed, all failed, no money, no turns."""
    shape = (batch, len(models))
    fate_BM = rng.choice(4, shape, p=rng.dirichlet(np.ones(4)))
    allowed, responded, failed = fate_BM == 1, fate_BM == 2, fate_BM == 3
    money = rng.choice([np.inf, 0.0, 1e-6, 1e-4, 1e-2], batch) * rng.uniform(0.5, 2.0, batch)
    return States(
        models=models,
        cost_weight_B=rng.choice([0.0, 1e-3, 0.1, 1.0, 30.0, 1e4], batch) * rng.uniform(0.5, 2.0, batch),
        target_quality_B=np.full(batch, np.nan),
        turns_left_B=rng.integers(0, 5, batch),
        money_left_B=np.nan_to_num(money, nan=0.0, posinf=np.inf),
        prompt_tokens_B=rng.integers(1, 3000, batch).astype(np.float64),
        allowed_BM=allowed,
        responded_BM=responded,
        failed_BM=failed,
        answer_BM=np.where(responded, rng.integers(-1, 3, shape), -1),
        tokens_BM=np.where(responded, rng.integers(0, 900, shape), 0).astype(np.float64),
        cost_BM=np.where(responded, rng.uniform(0, 1e-2, shape), 0.0),
    )
