"""Budgets: so many US dollars a period, charged to scopes such as `key:3f2a90c1d4e5/2026-11`. Periods are UTC's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Literal, get_args

from ..errors import RequestError

Period = Literal["day", "week", "month", "total"]
PERIODS: tuple[Period, ...] = get_args(Period)

MAX_AMOUNT_USD = Decimal(10) ** 9
_DAY_S = 86400


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `amount_usd` a period; "total" never renews. Raises RequestError for what is no such thing."""

    amount_usd: Decimal
    period: Period

    def __post_init__(self) -> None:
        if self.period not in PERIODS:
            raise RequestError(
                f"a budget's period must be one of {', '.join(PERIODS)}, got {self.period!r}", param="period"
            )
        if not self.amount_usd.is_finite() or not 0 <= self.amount_usd <= MAX_AMOUNT_USD:
            raise RequestError(
                f"a budget's amount_usd must be from 0 to {MAX_AMOUNT_USD:f} US dollars, got {self.amount_usd}",
                param="amount_usd",
            )

    def __str__(self) -> str:
        per = "in total" if self.period == "total" else f"a {self.period}"
        return f"{self.amount_usd:f} USD {per}"


def scope_of(owner: str, period: Period, at: float) -> str:
    """The scope that a budget of `owner` (`key:<id>`, `user:<id>`, `team:<id>`, `tag:<id>`) charges at Unix time `at`:
    `<owner>/2026-11-22`, `/2026-W47` (ISO week), `/2026-11` or `/total`."""
    return f"{owner}/{_label(period, int(at // _DAY_S))}"


def renews_at(period: Period, at: float) -> datetime | None:
    """When the period that holds Unix time `at` ends; None for one that never does."""
    today = _date(int(at // _DAY_S))
    match period:
        case "day":
            end = today + timedelta(days=1)
        case "week":
            end = today + timedelta(days=7 - today.weekday())
        case "month":
            end = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
        case _:
            return None
    return datetime(end.year, end.month, end.day, tzinfo=UTC)


@lru_cache(maxsize=64)
def _label(period: Period, day: int) -> str:
    when = _date(day)
    match period:
        case "day":
            return when.isoformat()
        case "week":
            year, week, _ = when.isocalendar()
            return f"{year:04}-W{week:02}"
        case "month":
            return f"{when.year:04}-{when.month:02}"
        case _:
            return "total"


def _date(day: int) -> date:
    return date(1970, 1, 1) + timedelta(days=day)
