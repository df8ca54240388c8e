"""What is booked, and the protocol of the books."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol, runtime_checkable

from ..messages import Usage


@dataclass(frozen=True, slots=True)
class CallEntry:
    """One call of one model, failed ones included. `at` is Unix seconds, `kind` is 'call' or 'policy'."""

    call_id: str
    episode_id: str
    at: float
    model: str
    provider: str
    kind: str
    turn: int
    usage: Usage
    cost_usd: Decimal
    latency_s: float
    error: str | None = None
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class EpisodeEntry:
    """One request, whole. `reference_cost_usd` is what the reference model alone would have cost (an estimate
    unless the reference model itself was called). `cost_weight` was not read where a `target_quality` was asked.
    `outside_training`: the request was unlike all that the policy was trained on. `key_id`, `user`, `team`: who asked,
    where the gateway checks keys. `cache`: the kind of cache that answered, at no cost; `saved_usd` is what the stored
    answer had cost."""

    episode_id: str
    at: float
    policy: str
    policy_version: str
    route: str
    calls: int
    answer_model: str | None
    stop_reason: str
    cost_usd: Decimal
    reference_model: str
    reference_cost_usd: Decimal
    confidence: float | None
    latency_s: float
    cost_weight: float
    error: str | None = None
    degraded: str | None = None
    simulated: bool = False
    target_quality: float | None = None
    outside_training: bool = False
    key_id: str | None = None
    user: str | None = None
    team: str | None = None
    tags: tuple[str, ...] = ()
    session: str | None = None
    trace_id: str | None = None
    cache: str | None = None
    saved_usd: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Spent:
    """What has been booked on a budget's scope (such as `key:3f2a/2026-11`): USD, and how many bookings made it up."""

    scope: str
    cost_usd: Decimal = Decimal(0)
    version: int = 0


@runtime_checkable
class Ledger(Protocol):
    """Append-only. `book` returns once the rows are durable, all of them or none; raises LedgerError."""

    async def book(
        self, episode: EpisodeEntry, calls: Sequence[CallEntry], scopes: Sequence[str] = ()
    ) -> Sequence[Spent]:
        """Commit an episode and charge its cost to each scope, in one transaction; returns the scopes' new totals."""
        ...

    async def spent(self, scopes: Sequence[str]) -> Sequence[Spent]:
        """What has been booked on each scope so far."""
        ...

    async def aclose(self) -> None: ...
