"""What a decision would cost, before anything is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from ..messages import Request
from ..providers.pool import Pool
from .cost import output_limit, predicted_cost, worst_cost
from .episode import CallModels, Decision


@dataclass(frozen=True, slots=True)
class Plan:
    """The first step of an episode that is not carried out. Costs in USD.

    models: who would be asked; empty where the policy would answer by itself. expected_cost_usd: at the expected
        length of answers; worst_cost_usd: at the longest that the models may give.
    hand_over: the answer would be streamed as it comes. excluded: models that cannot take the request, and why.
    """

    models: tuple[str, ...]
    expected_cost_usd: Decimal
    worst_cost_usd: Decimal
    confidence: float | None
    outside_training: bool
    hand_over: bool
    excluded: Mapping[str, str]


def planned(decision: Decision, request: Request, pool: Pool, excluded: Mapping[str, str]) -> Plan:
    calls = decision.action.calls if isinstance(decision.action, CallModels) else ()
    models = [pool[call.model] for call in calls]
    return Plan(
        models=tuple(model.name for model in models),
        expected_cost_usd=sum((predicted_cost(model, request) for model in models), Decimal(0)),
        worst_cost_usd=sum(
            (worst_cost(model, request, output_limit(model, request)) for model in models), Decimal(0)
        ),
        confidence=decision.confidence,
        outside_training=decision.outside_training,
        hand_over=decision.hand_over,
        excluded=excluded,
    )
