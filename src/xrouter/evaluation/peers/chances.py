"""Routers that say how likely each model is the one to choose, with the cost knob they lack.

Axes: B queries, N models the router was fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...policies.baselines import EstimatedBest
from ...policies.states import Floats, Ints
from ...tasks.outcomes import Outcomes
from ..contestants import TrainFigures

Chances = Callable[[Sequence[str]], Floats]
"""Queries -> chance_BN that each model is the one to choose; rows sum to 1."""


@dataclass(frozen=True, eq=False)
class BestByChance(EstimatedBest):
    """argmax(chance - lambda * the model's mean cost on train / reference cost). At lambda 0 the router's own choice."""

    chances: Chances
    mean_cost_N: Floats
    name: str

    def estimates(self, queries: Sequence[str]) -> tuple[Floats, Floats]:
        chance_BN = self.chances(queries)
        return chance_BN, np.broadcast_to(self.mean_cost_N, chance_BN.shape)


def best_by_chance(name: str, version: str, train: Outcomes, chances: Chances) -> BestByChance:
    figures = TrainFigures.of(train)
    return BestByChance(
        models=train.model_names,
        reference_cost=figures.reference_cost,
        chances=chances,
        mean_cost_N=figures.cost_M,
        name=name,
        version=version,
    )


def best_first(train: Outcomes) -> Ints:
    """Models by falling train score: where a router takes the first of equals, it takes the better model."""
    figures = TrainFigures.of(train)
    return np.lexsort((figures.cost_M, -figures.score_M))


def softmax(values_BN: Floats) -> Floats:
    shifted = np.exp(values_BN - values_BN.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))
