"""What the books add up to. All sums of money are exact."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact

from ..messages import Usage
from .ledger import CallEntry, EpisodeEntry

DEFAULT_TOP_ROUTES = 20

EXACT = Context(prec=200, traps=[Inexact])
"""Adds dollars without ever rounding."""


@dataclass(frozen=True, slots=True)
class ModelTotals:
    """One model's calls (`policy` turns included), what they cost in USD and their share of all calls (0..1)."""

    model: str
    calls: int
    failed_calls: int
    cost_usd: Decimal
    usage: Usage
    share: float


@dataclass(frozen=True, slots=True)
class RouteTotals:
    """How many requests took one route, and what they cost in USD."""

    route: str
    requests: int
    cost_usd: Decimal


@dataclass(frozen=True, slots=True)
class Totals:
    """Money in USD. `models` by cost, `routes` by requests, both falling; `routes` holds the most frequent ones.

    calls, failed_calls, usage: of every call, the policy's own included.
    failed_requests: requests that got no answer.
    simulated_share: share (0..1) of requests answered by a pool that only pretends.
    """

    requests: int
    failed_requests: int
    calls: int
    failed_calls: int
    spend_usd: Decimal
    reference_usd: Decimal
    usage: Usage
    models: tuple[ModelTotals, ...]
    routes: tuple[RouteTotals, ...]
    simulated_share: float

    @property
    def savings_usd(self) -> Decimal:
        """What the reference model alone would have cost more; negative if it would have been cheaper."""
        return EXACT.subtract(self.reference_usd, self.spend_usd)

    @property
    def savings_share(self) -> float | None:
        """Savings over the reference's cost; None where that is zero."""
        return float(self.savings_usd / self.reference_usd) if self.reference_usd else None


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def within(at: float, since: float | None, until: float | None) -> bool:
    """Whether a time lies in [since, until), each open-ended where None."""
    return (since is None or at >= since) and (until is None or at < until)


def ordered(
    models: Iterable[ModelTotals], routes: Iterable[RouteTotals], top_routes: int
) -> tuple[tuple[ModelTotals, ...], tuple[RouteTotals, ...]]:
    """Models and routes in the order reports show them, ties by name."""
    by_cost = sorted(models, key=lambda total: (-total.cost_usd, -total.calls, total.model))
    by_requests = sorted(routes, key=lambda total: (-total.requests, total.route))
    return tuple(by_cost), tuple(by_requests[:top_routes])


def totals_of(
    episodes: Sequence[EpisodeEntry], calls: Sequence[CallEntry], *, top_routes: int = DEFAULT_TOP_ROUTES
) -> Totals:
    """The totals of these entries."""
    calls_of: dict[str, list[CallEntry]] = defaultdict(list)
    for call in calls:
        calls_of[call.model].append(call)
    models = [
        ModelTotals(
            model=model,
            calls=len(its),
            failed_calls=sum(call.error is not None for call in its),
            cost_usd=exact_sum(call.cost_usd for call in its),
            usage=sum((call.usage for call in its), Usage()),
            share=len(its) / len(calls),
        )
        for model, its in calls_of.items()
    ]
    counts = Counter(episode.route for episode in episodes)
    routes = [
        RouteTotals(route, count, exact_sum(e.cost_usd for e in episodes if e.route == route))
        for route, count in counts.items()
    ]
    by_cost, by_requests = ordered(models, routes, top_routes)
    return Totals(
        requests=len(episodes),
        failed_requests=sum(episode.error is not None for episode in episodes),
        calls=len(calls),
        failed_calls=sum(call.error is not None for call in calls),
        spend_usd=exact_sum(episode.cost_usd for episode in episodes),
        reference_usd=exact_sum(episode.reference_cost_usd for episode in episodes),
        usage=sum((call.usage for call in calls), Usage()),
        models=by_cost,
        routes=by_requests,
        simulated_share=sum(e.simulated for e in episodes) / len(episodes) if episodes else 0.0,
    )
