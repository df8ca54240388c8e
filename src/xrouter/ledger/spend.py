"""What was spent, by whoever or whatever spent it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Protocol, get_args, runtime_checkable

from .ledger import CallEntry, EpisodeEntry
from .totals import EXACT

SpendBy = Literal["key", "user", "team", "tag", "model"]
SPEND_BY: tuple[SpendBy, ...] = get_args(SpendBy)


@dataclass(frozen=True, slots=True)
class Spend:
    """USD spent, and by how many requests; by model, how many calls. `name` is None for requests without any such.

    A request with several tags counts with each of them in full. By model the policy's own calls count too.
    """

    name: str | None
    requests: int
    cost_usd: Decimal


@runtime_checkable
class SpendReader(Protocol):
    """A ledger that adds up who spent what."""

    def spend(self, by: SpendBy, since: float | None = None, until: float | None = None) -> Sequence[Spend]:
        """What was spent at times in [since, until), Unix seconds, the dearest first. Blocks. Raises LedgerError."""
        ...


def in_order(spends: Iterable[Spend]) -> list[Spend]:
    """The dearest first, ties by name."""
    return sorted(spends, key=lambda spend: (-spend.cost_usd, -spend.requests, spend.name or ""))


def spend_of(episodes: Sequence[EpisodeEntry], calls: Sequence[CallEntry], by: SpendBy) -> list[Spend]:
    """The spending of these entries."""
    totals: dict[str | None, Spend] = {}
    for name, cost_usd in _charges(episodes, calls, by):
        before = totals.get(name, Spend(name, 0, Decimal(0)))
        totals[name] = Spend(name, before.requests + 1, EXACT.add(before.cost_usd, cost_usd))
    return in_order(totals.values())


def read_spend(connection: sqlite3.Connection, by: SpendBy, span: tuple[float, float]) -> list[Spend]:
    """The spending booked in a SQLite ledger. The connection knows the aggregate `exact_sum`."""
    rows = connection.execute(_SQL[by], span)
    return in_order(Spend(name, requests, Decimal(cost)) for name, requests, cost in rows)


def _charges(
    episodes: Sequence[EpisodeEntry], calls: Sequence[CallEntry], by: SpendBy
) -> Iterable[tuple[str | None, Decimal]]:
    match by:
        case "key":
            return ((entry.key_id, entry.cost_usd) for entry in episodes)
        case "user":
            return ((entry.user, entry.cost_usd) for entry in episodes)
        case "team":
            return ((entry.team, entry.cost_usd) for entry in episodes)
        case "tag":
            return ((tag, entry.cost_usd) for entry in episodes for tag in entry.tags or (None,))
        case "model":
            return ((call.model, call.cost_usd) for call in calls)


_SUM = "SELECT {0}, count(*), exact_sum(cost_usd) FROM {1} WHERE at >= ? AND at < ? GROUP BY 1"
_SQL: dict[SpendBy, str] = {
    "key": _SUM.format("key_id", "episodes"),
    "user": _SUM.format("user", "episodes"),
    "team": _SUM.format("team", "episodes"),
    "tag": _SUM.format("tag.value", "episodes LEFT JOIN json_each(episodes.tags) AS tag"),
    "model": _SUM.format("model", "calls"),
}
