"""Figures from measurements. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Summary:
    """Of one figure over the rounds."""

    median: float
    low: float
    high: float
    rounds: int


def summary(values: Sequence[float]) -> Summary:
    """Raises ValueError where there are none."""
    if not values:
        raise ValueError("no measurement to sum up")
    return Summary(statistics.median(values), min(values), max(values), len(values))


def added_ms(direct: Sequence[float], through: Sequence[float]) -> float:
    """The median of what each request took longer than the direct one sent just before it.

    Pairs, not the difference of two medians: what slows the machine down slows both of a pair.
    """
    return statistics.median(b - a for a, b in zip(direct, through, strict=True))


def on_time(delays_ms: Sequence[float], expected: int, tolerance_ms: float) -> float:
    """The share of the chunks written upstream that arrived within the tolerance; one that never came is late."""
    return sum(delay <= tolerance_ms for delay in delays_ms) / expected


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over the rounds of ours over theirs in the same round, so that a slow round counts for both.

    Infinite in a round where theirs is zero or less, as an added latency within the noise can be.
    Raises ValueError where one has more rounds than the other.
    """
    return statistics.median(a / b if b > 0 else math.inf for a, b in zip(ours, theirs, strict=True))
