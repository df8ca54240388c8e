"""Routers that name one model a query, as array policies.

Axes: B queries, K fits, N models the router was fitted on, M models of the pool.

Such a router has no cost knob. It is given one by fitting it once for each of several lambdas, on the utility
score - lambda * cost / reference cost in place of the score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...policies.baselines import UNFITTED, ask_best, columns_of, list_price_BM
from ...policies.states import Choices, Floats, Ints, States
from ...tasks.outcomes import Outcomes
from ..contestants import TrainFigures

Choose = Callable[[Sequence[str]], Ints]
"""Queries -> for each the position of the chosen model in the training pool."""


@dataclass(frozen=True, eq=False)
class RefittedChoice:
    """fits: the router by the lambda it was fitted for. The nearest one decides, on a log scale."""

    name: str
    version: str
    models: tuple[str, ...]
    fits: tuple[tuple[float, Choose], ...]

    def encode(self, queries: Sequence[str]) -> Floats:
        """choice_BK"""
        return np.column_stack([choose(queries) for _, choose in self.fits]).astype(np.float64)

    def decide(self, text_BD: Floats, states: States) -> Choices:
        choice_B = text_BD[np.arange(len(states)), self._fit_B(states.cost_weight_B)].astype(np.int64)
        chosen_BM = columns_of(self.models, states.models) == choice_B[:, None]
        return ask_best(np.where(chosen_BM, 1.0, UNFITTED - list_price_BM(states)), states)

    def at(self, cost_weight: float) -> RefittedChoice:
        """The one fit that decides at this lambda: what would be deployed."""
        return replace(self, fits=(self.fits[int(self._fit_B(np.array([cost_weight]))[0])],))

    def _fit_B(self, cost_weight_B: Floats) -> Ints:
        least = min((weight for weight, _ in self.fits if weight > 0), default=1.0) / 10.0
        log_K = np.log([max(weight, least) for weight, _ in self.fits])
        log_B = np.log(np.maximum(cost_weight_B, least))
        return np.asarray(np.abs(log_B[:, None] - log_K).argmin(1), np.int64)


def utility_QM(train: Outcomes, cost_weight: float) -> Floats:
    """score - lambda * cost / reference cost; NaN where the model was not asked."""
    reference = TrainFigures.of(train).reference_cost
    return np.asarray(train.score_QM - cost_weight * train.recording.cost_QM / reference)


def best_first(train: Outcomes) -> Ints:
    """Models by falling train score: where a router takes the first of equals, it takes the better model."""
    figures = TrainFigures.of(train)
    return np.lexsort((figures.cost_M, -figures.score_M))
