"""Tables and numbers as Markdown shows them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from .bootstrap import Interval

NONE = "–"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> str:
    rule = ["---:" if side == "r" else "---" for side in align]
    lines = [head, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_interval(value: Interval, digits: int = 3, sign: bool = False) -> str:
    if math.isnan(value.value):
        return NONE
    low, high = (NONE if math.isnan(b) else f"{_zero(b, digits):.{digits}f}" for b in (value.low, value.high))
    plus = "+" if sign else ""
    return f"{_zero(value.value, digits):{plus}.{digits}f} [{low}, {high}]"


def _zero(value: float, digits: int) -> float:
    """Without the minus of a rounded zero."""
    return round(value, digits) + 0.0


def number(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:.3f}"


def per_1000(usd_per_query: float) -> str:
    if math.isnan(usd_per_query):
        return NONE
    per_thousand = usd_per_query * 1000
    return f"{per_thousand:.2f}" if per_thousand >= 1 else f"{per_thousand:.3g}"
