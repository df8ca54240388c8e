"""Keys, users, teams and tags as administrators see them: plain data for JSON, without hashes."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from ..ledger.ledger import Ledger
from ..ledger.totals import EXACT
from .account import Account
from .budget import Budget, renews_at, scope_of
from .key import VirtualKey
from .rows import limits_object


async def key_objects(keys: Sequence[VirtualKey], ledger: Ledger, now: float) -> list[dict[str, Any]]:
    """Times are Unix seconds, money texts of exact USD. Raises LedgerError."""
    states = await _budget_states([(f"key:{key.id}", key.budgets) for key in keys], ledger, now)
    return [
        {
            "object": "key",
            "id": key.id,
            "name": key.name,
            "shown": key.shown,
            "state": key_state(key, now),
            "user": key.user,
            "team": key.team,
            "models": None if key.models is None else list(key.models),
            "tags": list(key.tags),
            "created": key.created,
            "expires_at": key.expires_at,
            "revoked": key.revoked,
            "old_secret_until": key.previous_until,
            "budgets": budgets,
            "limits": limits_object(key.limits),
        }
        for key, budgets in zip(keys, states, strict=True)
    ]


async def account_objects(accounts: Sequence[Account], ledger: Ledger, now: float) -> list[dict[str, Any]]:
    """As `key_objects`."""
    states = await _budget_states([(account.owner, account.budgets) for account in accounts], ledger, now)
    return [
        {
            "object": account.kind,
            "id": account.id,
            "created": account.created,
            "budgets": budgets,
            "limits": limits_object(account.limits),
        }
        for account, budgets in zip(accounts, states, strict=True)
    ]


def key_state(key: VirtualKey, now: float) -> str:
    if key.revoked is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and now >= key.expires_at else "active"


async def _budget_states(
    owners: Sequence[tuple[str, Sequence[Budget]]], ledger: Ledger, now: float
) -> list[list[dict[str, Any]]]:
    """Of each owner each budget with what is booked on it in the present period."""
    scopes = [scope_of(owner, budget.period, now) for owner, budgets in owners for budget in budgets]
    spent = {total.scope: total.cost_usd for total in (await ledger.spent(scopes) if scopes else ())}
    return [
        [_budget_state(budget, scope_of(owner, budget.period, now), spent, now) for budget in budgets]
        for owner, budgets in owners
    ]


def _budget_state(budget: Budget, scope: str, spent: dict[str, Decimal], now: float) -> dict[str, Any]:
    renewal = renews_at(budget.period, now)
    left = EXACT.subtract(budget.amount_usd, spent[scope])
    return {
        "amount_usd": f"{budget.amount_usd:f}",
        "period": budget.period,
        "scope": scope,
        "spent_usd": f"{spent[scope]:f}",
        "left_usd": f"{max(Decimal(0), left):f}",
        "renews_at": None if renewal is None else renewal.timestamp(),
    }
