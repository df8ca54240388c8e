"""Entries for tests of ledgers."""

from __future__ import annotations

from decimal import Decimal

from xrouter.ledger.ledger import CallEntry, EpisodeEntry
from xrouter.messages import Usage


def episode_entry(
    episode_id: str,
    *,
    at: float = 0.0,
    route: str = "a",
    cost: str = "0.01",
    reference: str = "0.02",
    error: str | None = None,
    simulated: bool = False,
) -> EpisodeEntry:
    return EpisodeEntry(
        episode_id, at, "policy", "1", route, 1, "a", "selected", Decimal(cost), "dear", Decimal(reference),
        0.5, 0.1, 0.5, error, None, simulated,
    )  # fmt: skip


def call_entry(
    episode_id: str,
    call_id: str,
    model: str = "a",
    *,
    at: float = 0.0,
    cost: str = "0.01",
    kind: str = "call",
    usage: Usage | None = None,
    error: str | None = None,
) -> CallEntry:
    usage = Usage(100, 50) if usage is None else usage
    return CallEntry(call_id, episode_id, at, model, "mock", kind, 1, usage, Decimal(cost), 0.1, error)
