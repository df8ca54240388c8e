"""Parallel calls under one hard cost cap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_FLOOR, Decimal

from ..catalog.model import Model
from ..messages import Request
from .calls import PlannedCall
from .cost import affordable_output_tokens, output_limit, predicted_cost, worst_cost

MIN_OUTPUT_TOKENS = 16
"""A call that can pay for fewer is not worth making."""

SMALLEST_SHARE = Decimal("1E-15")


def fit_budget(calls: Sequence[PlannedCall], money_left: Decimal) -> tuple[list[PlannedCall], list[str]]:
    """The calls that fit `money_left` USD together, with their output limited, and what is said of the others.

    A call fits if the predicted costs of the calls up to it fit. The money is then shared in proportion to the
    predictions, and each call's output is limited to what its share pays for at worst, so the sum of the
    worst cases never exceeds `money_left`. A call that its share cannot pay for at worst is refused and the
    others share again.
    """
    kept: list[PlannedCall] = []
    errors: list[str] = []
    promised = Decimal(0)
    for call in calls:
        if promised + call.predicted_cost > money_left:
            errors.append(_refusal(call, money_left - promised))
        else:
            kept.append(call)
            promised += call.predicted_cost
    while kept:
        limited = [_limit(call, share) for call, share in zip(kept, _shares(kept, money_left), strict=True)]
        poor = next((i for i, call in reversed(list(enumerate(limited))) if call is None), None)
        if poor is None:
            return [call for call in limited if call is not None], errors
        errors.append(_refusal(kept.pop(poor), money_left))
    return [], errors


def least_money(model: Model, request: Request) -> Decimal:
    """USD a cap must leave for `fit_budget` to keep this call, were it made alone with its default prediction."""
    if output_limit(model, request) < MIN_OUTPUT_TOKENS:
        return Decimal("Infinity")
    return max(predicted_cost(model, request), worst_cost(model, request, MIN_OUTPUT_TOKENS))


def _shares(calls: Sequence[PlannedCall], money_left: Decimal) -> list[Decimal]:
    """USD for each call, in proportion to the predictions, rounded down so that they never add up to more."""
    total = sum((call.predicted_cost for call in calls), Decimal(0))
    if total == 0:
        return [(money_left / len(calls)).quantize(SMALLEST_SHARE, ROUND_FLOOR) for _ in calls]
    return [
        (money_left * call.predicted_cost / total).quantize(SMALLEST_SHARE, ROUND_FLOOR) for call in calls
    ]


def _limit(call: PlannedCall, share: Decimal) -> PlannedCall | None:
    """The call with its output limited to what `share` USD pays for at worst; None if that is too little."""
    wanted = output_limit(call.model, call.request)
    affordable = affordable_output_tokens(call.model, call.request, share)
    if affordable >= wanted:
        return call
    if affordable < MIN_OUTPUT_TOKENS:
        return None
    own = [name for name in ("max_completion_tokens", "max_tokens") if name in call.request.params]
    names = own or ["max_completion_tokens" if call.model.reasoning else "max_tokens"]
    limited = call.request.with_params(**dict.fromkeys(names, affordable))
    return replace(call, request=limited, unlimited=call.request)


def _refusal(call: PlannedCall, money: Decimal) -> str:
    return (
        f"calling {call.model.name} is refused: {call.predicted_cost:f} USD predicted (more at worst), "
        f"{max(money, Decimal(0)):f} USD left of the cost cap; choose a cheaper model or fewer at once"
    )
