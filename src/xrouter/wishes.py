"""What a caller may wish for, checked: preset or lambda, target quality, cap, deadline, turns."""

from __future__ import annotations

import math
from decimal import ROUND_FLOOR, Decimal, InvalidOperation

from .episodes.budget import SMALLEST_SHARE
from .episodes.episode import Preference
from .errors import RequestError
from .settings import Settings

MAX_CAP_USD = Decimal(10**9)

MAX_TURNS = 16
"""The most turns a caller may ask for."""


def preference(
    settings: Settings,
    *,
    preset: str | None = None,
    cost_weight: float | None = None,
    target_quality: float | None = None,
    max_cost_usd: Decimal | float | str | None = None,
    deadline_s: float | None = None,
    max_turns: int | None = None,
    simple: bool = False,
) -> Preference:
    """What the caller wants, with the settings' defaults and limits.

    Raises RequestError whose `param` is the argument at fault.
    """
    presets = settings.presets
    if preset is not None and not isinstance(preset, str):
        raise _wrong("preset", f"one of {', '.join(presets)}", preset)
    if preset is not None and preset not in presets:
        raise RequestError(f"preset {preset!r} is unknown; there are {', '.join(presets)}", param="preset")
    if preset is not None and cost_weight is not None:
        raise RequestError("cost_weight and a preset exclude each other: give one", param="cost_weight")
    if target_quality is not None:
        if cost_weight is not None or preset is not None:
            other = "cost_weight" if preset is None else "a preset"
            raise RequestError(
                f"target_quality and {other} exclude each other: give one", param="target_quality"
            )
        if not _is_number(target_quality) or not 0 < target_quality < 1:
            raise _wrong("target_quality", "a probability above 0 and below 1", target_quality)
    if cost_weight is None:
        cost_weight = presets[preset or settings.default_preset]
    elif not _is_number(cost_weight) or cost_weight < 0:
        raise _wrong("cost_weight", "a number from 0 (quality alone) up", cost_weight)
    longest = settings.request_timeout_s
    if deadline_s is not None and (not _is_number(deadline_s) or deadline_s <= 0):
        raise _wrong("deadline_s", "a positive number of seconds", deadline_s)
    if max_turns is None:
        max_turns = settings.max_turns
    elif type(max_turns) is not int or not 1 <= max_turns <= MAX_TURNS:
        raise _wrong("max_turns", f"an integer from 1 to {MAX_TURNS}", max_turns)
    if not isinstance(simple, bool):
        raise _wrong("simple", "true or false", simple)
    return Preference(
        cost_weight=float(cost_weight),
        target_quality=None if target_quality is None else float(target_quality),
        max_cost_usd=None if max_cost_usd is None else _dollars(max_cost_usd),
        deadline_s=longest if deadline_s is None else min(deadline_s, longest),
        max_turns=max_turns,
        simple=simple,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _dollars(value: Decimal | float | str) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or not 0 <= amount <= MAX_CAP_USD:
        raise _wrong("max_cost_usd", f"an amount of US dollars such as 0.002, {MAX_CAP_USD:,} at most", value)
    # Money is shared out in steps of this size: digits beyond it buy nothing.
    floor = amount.quantize(SMALLEST_SHARE, ROUND_FLOOR)
    return floor if floor < amount else amount


def _wrong(name: str, expected: str, value: object) -> RequestError:
    shown = repr(value) if isinstance(value, (int, float)) else type(value).__name__
    return RequestError(f"{name} must be {expected}, got {shown}", param=name)
