"""What a call is likely to cost before it is made, and what it hardly exceeds: for dry runs and for budgets that plan ahead.

A forecast, not a bound: a cap on cost is kept by `episodes.budget`, which reckons with the worst.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..episodes.cost import choices, output_limit
from ..episodes.episode import Observation
from ..errors import RequestError
from .arrays import observe
from .network import NetworkPolicy

USUAL_QUANTILE = 0.9


@dataclass(frozen=True, slots=True)
class CostForecast:
    """US dollars of one call: expected, and not exceeded with the forecast's probability."""

    model: str
    expected_usd: float
    quantile_usd: float


def predicted_cost_quantile(
    policy: NetworkPolicy, observation: Observation, quantile: float = USUAL_QUANTILE
) -> tuple[CostForecast, ...]:
    """A forecast for each model of the pool, in its order. The prompt's length is taken as estimated.

    quantile: probability within (0, 1). Raises RequestError for any other.
    """
    if not 0.0 < quantile < 1.0:
        raise RequestError(
            f"quantile must be a probability between 0 and 1, got {quantile!r}; 0.9 is usual",
            param="quantile",
        )
    request, pool = observation.request, observation.pool
    states = observe(observation)
    prior = policy.prior(policy.encode([request.query]), states)
    profile = policy.pool_profile(pool)
    limit_M = np.array([output_limit(model, request) for model in pool], np.float64)
    expected_M, likely_M = (
        profile.cost_BM(np.minimum(tokens_BM, limit_M) * choices(request), states.prompt_tokens_B)[0]
        for tokens_BM in (prior.tokens_BM, profile.tokens_quantile_BM(prior.tokens_BM, quantile))
    )
    return tuple(
        CostForecast(model.name, expected, likely)
        for model, expected, likely in zip(pool, expected_M.tolist(), likely_M.tolist(), strict=True)
    )
