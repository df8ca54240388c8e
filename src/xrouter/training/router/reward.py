"""What a finished episode of a language model that routes is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from ...catalog.model import Model
from ...episodes.cost import predicted_cost
from ...errors import ConfigurationError
from ...messages import Request
from ...rewards.cost_aware import CostAwareReward
from ...rewards.linear import LinearReward
from ...rewards.outcome import Outcome
from ...rewards.reward import Reward
from ..dataset.rows import Sample

RewardName = Literal["linear", "cost_aware"]
DEAREST, USD = "dearest", "usd"


@dataclass(frozen=True, slots=True)
class RewardSettings:
    """kind: 'linear' is s - lambda C, 'cost_aware' is s (K - min(lambda C, c_max)) with K `success_bonus` and c_max
    `penalty_cap` (xRouter's, arXiv 2510.08439). lambda comes with the sample.

    cost_unit: what C counts in. 'dearest' is what one call of the sample's dearest model should cost on this question, the
        unit in which the router's instructions put lambda; 'usd' is raw dollars, as xRouter has it.
    trivial_call_penalty: taken off the quality where a model was called for a question that needs none.
    """

    kind: RewardName = "linear"
    success_bonus: float = 1.0
    penalty_cap: float = 0.8
    cost_unit: str = DEAREST
    trivial_call_penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "cost_aware"):
            raise ConfigurationError(
                f"reward.kind must be linear or cost_aware, got {self.kind!r}", param="kind"
            )
        if self.cost_unit not in (DEAREST, USD):
            raise ConfigurationError(
                f"reward.cost_unit must be dearest or usd, got {self.cost_unit!r}", param="cost_unit"
            )
        if not 0 <= self.trivial_call_penalty <= 1:
            raise ConfigurationError(
                f"reward.trivial_call_penalty must lie in 0..1, got {self.trivial_call_penalty}",
                param="trivial_call_penalty",
            )


class EpisodeReward:
    """The reward of these settings; the router's own tokens are part of an episode's cost."""

    def __init__(self, settings: RewardSettings | None = None) -> None:
        self.settings = settings or RewardSettings()
        self._reward: Reward = (
            LinearReward()
            if self.settings.kind == "linear"
            else CostAwareReward(self.settings.success_bonus, self.settings.penalty_cap)
        )

    def of(self, outcome: Outcome, sample: Sample, pool: Sequence[Model]) -> float:
        cost = outcome.cost_usd / self.unit_usd(sample.task.request, pool)
        kept = 1 - self.settings.trivial_call_penalty if sample.trivial and outcome.calls else 1.0
        weight = sample.preference.cost_weight
        return float(self._reward.reward(outcome.quality * kept, float(cost), weight))

    def unit_usd(self, request: Request, pool: Sequence[Model]) -> Decimal:
        """USD that C counts in; 1 where every model is free, so that it stays a number."""
        if self.settings.cost_unit == USD:
            return Decimal(1)
        return max(predicted_cost(model, request) for model in pool) or Decimal(1)
