"""The arithmetic of token buckets and of money set aside, the same for every kind of state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Decimal

from ..ledger.totals import EXACT
from .state import Take

PICODOLLARS = Decimal(10) ** 12
SLACK = 1e-9
"""What floats may have lost of a bucket's level."""

SCOPE_TTL_S = 35 * 86400.0
"""How long what was spent on a scope is remembered after its last use, in seconds: longer than any month. Until then
a gateway that read the ledger long ago still counts what the others have booked since."""


def picodollars(amount_usd: Decimal) -> int:
    """1e-12 USD, rounded up where an amount is finer still: a budget errs on the safe side."""
    return int(EXACT.multiply(amount_usd, PICODOLLARS).to_integral_value(ROUND_CEILING))


def refilled(level: float, elapsed_s: float, take: Take) -> float:
    """What a bucket holds `elapsed_s` seconds after it held `level`; a clock that went back fills nothing."""
    return min(take.capacity, level + max(0.0, elapsed_s) * take.per_s)


def full_in(level: float, take: Take) -> float:
    """Seconds until the bucket is full, from when on it need not be remembered."""
    missing = take.capacity - level
    return 0.0 if missing <= 0 else missing / take.per_s if take.per_s > 0 else SCOPE_TTL_S


def after_takes(levels: Mapping[str, float], takes: Sequence[Take]) -> dict[str, float] | tuple[int, float]:
    """The levels once all is taken; where a bucket has too little, (its index, seconds until it has enough).

    Of several such buckets the one with the longest wait counts; it is infinite where the amount exceeds the capacity.
    """
    left = dict(levels)
    short: tuple[int, float] | None = None
    for index, take in enumerate(takes):
        left[take.bucket] -= take.amount
        if left[take.bucket] < -SLACK and take.amount > 0:
            never = take.amount > take.capacity or take.per_s <= 0
            wait = math.inf if never else -left[take.bucket] / take.per_s
            if short is None or wait > short[1]:
                short = index, wait
    return left if short is None else short
