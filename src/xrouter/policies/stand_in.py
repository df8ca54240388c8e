"""What to do when the model that decides cannot: never silently, always with an answer where one can be had."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from ..catalog.model import Model
from ..episodes.agreement import best_response
from ..episodes.budget import least_money
from ..episodes.cost import predicted_cost
from ..episodes.episode import Call, CallModels, Decision, Observation, Select

UNSTATED_CAPABILITY = 0.5


def stand_in(observation: Observation, offered: Sequence[Model], why: str, preferred: str | None) -> Decision:
    """The best response so far, else one call whose answer is handed over. `why` ends up in `degraded`."""
    best = best_response(observation.responses, observation.pool)
    if best is not None and not best.useless:
        return Decision(Select(best.call_id), fallback=why)
    asked = {response.model for response in observation.responses}
    fresh = [model for model in offered if model.name not in asked]
    model = most_sensible(fresh or offered, observation, preferred)
    return Decision(CallModels((Call(model.name),)), fallback=why, hand_over=True)


def most_sensible(models: Sequence[Model], observation: Observation, preferred: str | None) -> Model:
    """`preferred` where it may be asked, else the model with the most stated capability less lambda times its cost,
    in units of the dearest; among those that the money left pays for, else the cheapest."""
    request, money = observation.request, observation.money_left_usd
    costs = {model.name: predicted_cost(model, request) for model in models}
    able = [model for model in models if money is None or least_money(model, request) <= money]
    if not able:
        return min(models, key=lambda model: costs[model.name])
    for model in able:
        if model.name == preferred:
            return model
    unit = max(costs.values()) or Decimal(1)
    weight = 0.0 if observation.preference.target_quality is not None else observation.preference.cost_weight

    def worth(model: Model) -> tuple[float, Decimal]:
        capability = UNSTATED_CAPABILITY if model.capability is None else model.capability
        return capability - weight * float(costs[model.name] / unit), costs[model.name]

    return max(able, key=worth)
