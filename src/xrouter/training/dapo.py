"""DAPO as pure functions: arrays in, arrays out; no model, no sampler, no state.

Axes:
    P  prompts (one group of rollouts each)
    G  rollouts of one prompt
    B  sequences, P * G of them, flattened
    T  positions of a sequence: tokens of a language model, decisions of a network policy

Papers: DAPO, arXiv 2503.14476. GRPO (DeepSeekMath), arXiv 2402.03300. Dr. GRPO, arXiv 2503.20783.

Left out: the KL term to a reference policy and the entropy bonus (DAPO has neither); dual-clip PPO's second
bound for negative advantages; corrections for a sampler whose probabilities differ from the trainer's;
masking of truncated sequences (it would stop the overlong penalty from teaching).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigurationError, DataError

Group = TypeVar("Group")
Scale = Literal["none", "group", "batch"]

STD_EPSILON = 1e-6
"""Added to a standard deviation before dividing by it."""

LOG_RATIO_LIMIT = 20.0
"""Log ratios are clamped to +-20: exp() stays finite, and so do the gradients of clipped positions."""


@dataclass(frozen=True, slots=True)
class LossDiagnostics:
    """Means over unmasked positions. `clipped_low`, `clipped_high`: share whose gradient the clip removed.

    approx_kl: k3 estimate of KL(old || new), mean of r - 1 - log r (Schulman 2020), never negative.
    """

    clipped_low: float
    clipped_high: float
    ratio_mean: float
    approx_kl: float


def group_relative_advantages(rewards_PG: ArrayLike, scale: Scale = "none") -> NDArray[np.float64]:
    """A = r - mean of the group's rewards (GRPO section 4.1.2), scaled as asked.

    scale: 'none' as Dr. GRPO section 3.2; 'group' divides by the group's standard deviation (GRPO; it blows up
    tiny cost differences where every rollout is right); 'batch' divides by the deviation of all rewards.
    Deviations are the sample's (n - 1). Raises DataError unless rewards are finite and two-dimensional.
    """
    if scale not in get_args(Scale):
        raise ConfigurationError(f"scale must be 'none', 'group' or 'batch', got {scale!r}")
    r_PG = _rewards(rewards_PG)
    advantages_PG: NDArray[np.float64] = r_PG - r_PG.mean(axis=1, keepdims=True)
    if scale == "none" or r_PG.shape[1] == 1:
        return advantages_PG
    std = r_PG.std(axis=1, ddof=1, keepdims=True) if scale == "group" else r_PG.std(ddof=1)
    return np.asarray(advantages_PG / (std + STD_EPSILON))


def clipped_token_mean_loss(
    logp_BT: torch.Tensor,
    old_logp_BT: torch.Tensor,
    advantages: torch.Tensor,
    mask_BT: torch.Tensor,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
) -> tuple[torch.Tensor, LossDiagnostics]:
    """DAPO equation 8 with the token mean of section 3.3, negated so that descending it learns.

        r = exp(logp - old_logp)
        loss = - sum over unmasked (b, t) of min(r A, clip(r, 1 - low, 1 + high) A) / number of unmasked (b, t)

    advantages: one a sequence (B) or one a position (BT). mask_BT: True where the policy chose. Every position
    weighs the same, so long sequences weigh more. The old log-probabilities and advantages are constants: no
    gradient flows into them. Raises DataError where nothing is unmasked.
    """
    mask_BT = mask_BT.bool()
    count = int(mask_BT.sum())
    if count == 0:
        raise DataError("mask is False everywhere: there is no position to learn from")
    advantages_BT = (advantages if advantages.dim() == 2 else advantages.unsqueeze(1)).detach()
    # Where the mask is False anything may stand, even inf: replaced before exp() so that no NaN gradient arises.
    log_ratio_BT = torch.where(mask_BT, logp_BT - old_logp_BT.detach(), 0.0)
    log_ratio_BT = log_ratio_BT.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    ratio_BT = log_ratio_BT.exp()
    clipped_BT = ratio_BT.clamp(1 - clip_low, 1 + clip_high)
    gain_BT = torch.minimum(ratio_BT * advantages_BT, clipped_BT * advantages_BT)
    loss = -torch.where(mask_BT, gain_BT, 0.0).sum() / count

    with torch.no_grad():

        def mean(values_BT: torch.Tensor) -> float:
            return float(torch.where(mask_BT, values_BT, 0.0).sum() / count)

        diagnostics = LossDiagnostics(
            clipped_low=mean(((ratio_BT < 1 - clip_low) & (advantages_BT < 0)).to(ratio_BT.dtype)),
            clipped_high=mean(((ratio_BT > 1 + clip_high) & (advantages_BT > 0)).to(ratio_BT.dtype)),
            ratio_mean=mean(ratio_BT),
            approx_kl=mean(ratio_BT - 1 - log_ratio_BT),
        )
    return loss, diagnostics


def informative_groups(rewards_PG: ArrayLike, tolerance: float = 1e-8) -> NDArray[np.bool_]:
    """Which groups teach anything: those whose rewards differ by more than `tolerance` (DAPO section 3.2).

    DAPO filters on accuracy. Here it is the reward: a group that is right throughout, at different cost, still
    teaches thrift. Raises DataError unless rewards are finite and two-dimensional.
    """
    return np.asarray(np.ptp(_rewards(rewards_PG), axis=1) > tolerance)


@dataclass(frozen=True, eq=False)
class Resampled(Generic[Group]):
    """What resampling kept: `groups[p]` earned `rewards_PG[p]`.

    batches: times the sampler was called. seen: groups it returned. short: how many of the groups asked for
    are missing because the limit on batches came first; 0 when all are there.
    """

    groups: tuple[Group, ...]
    rewards_PG: NDArray[np.float64]
    batches: int
    seen: int
    short: int


def resample_until_informative(
    sample: Callable[[int], tuple[Sequence[Group], ArrayLike]],
    groups_needed: int,
    max_batches: int = 10,
    tolerance: float = 1e-8,
) -> Resampled[Group]:
    """DAPO's dynamic sampling (section 3.2, equation 11): draw groups until enough of them are informative.

    sample: called with the number of groups still missing; returns groups, as many as it likes, and their
    rewards_PG. Surplus groups are dropped, latest first. After `max_batches` calls what there is comes back,
    `short` of the number asked for. Raises ConfigurationError for a limit under 1, DataError for a sampler
    whose groups and rewards differ in number.
    """
    for name, value in (("groups_needed", groups_needed), ("max_batches", max_batches)):
        if value < 1:
            raise ConfigurationError(f"{name} must be at least 1, got {value}")
    kept: list[Group] = []
    kept_rewards: list[NDArray[np.float64]] = []
    batches = seen = 0
    while len(kept) < groups_needed and batches < max_batches:
        groups, rewards = sample(groups_needed - len(kept))
        rewards_PG = _rewards(rewards)
        if len(groups) != len(rewards_PG):
            raise DataError(f"the sampler returned {len(groups)} groups but rewards of {len(rewards_PG)}")
        batches += 1
        seen += len(groups)
        for p in np.flatnonzero(informative_groups(rewards_PG, tolerance))[: groups_needed - len(kept)]:
            kept.append(groups[p])
            kept_rewards.append(rewards_PG[p])
    return Resampled(
        groups=tuple(kept),
        rewards_PG=np.stack(kept_rewards) if kept else np.empty((0, 0)),
        batches=batches,
        seen=seen,
        short=groups_needed - len(kept),
    )


def overlong_penalty(
    length: ArrayLike, max_length: int, buffer: int, factor: float = 1.0
) -> NDArray[np.float64]:
    """DAPO equation 13, times `factor`: 0 up to max_length - buffer, then linear to -factor at max_length and beyond.

    Lengths in tokens; added to the reward. Raises ConfigurationError unless 0 < buffer <= max_length and
    factor >= 0.
    """
    if not 0 < buffer <= max_length:
        raise ConfigurationError(f"buffer must lie in 1..max_length ({max_length}), got {buffer}")
    if not factor >= 0:
        raise ConfigurationError(f"factor must be zero or more, got {factor}")
    excess = np.asarray(length, np.float64) - (max_length - buffer)
    return np.asarray(-factor * np.clip(excess / buffer, 0.0, 1.0))


def _rewards(rewards_PG: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(rewards_PG, np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(f"rewards must have the axes prompts x rollouts, got the shape {array.shape}")
    if not np.isfinite(array).all():
        raise DataError("rewards must be finite; one is NaN or infinite")
    return array
