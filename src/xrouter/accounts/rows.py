"""Keys and accounts as JSON text, the form in which stores keep them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import orjson

from ..settings_tables.access import Limits
from .account import Account, AccountKind
from .budget import Budget
from .key import VirtualKey


def key_text(key: VirtualKey) -> str:
    return orjson.dumps(
        {
            "id": key.id,
            "name": key.name,
            "hash": key.hash,
            "shown": key.shown,
            "created": key.created,
            "user": key.user,
            "team": key.team,
            "models": key.models,
            "tags": key.tags,
            "expires_at": key.expires_at,
            "revoked": key.revoked,
            "budgets": budget_objects(key.budgets),
            "limits": limits_object(key.limits),
            "previous_hash": key.previous_hash,
            "previous_until": key.previous_until,
        }
    ).decode()


def read_key(text: str) -> VirtualKey:
    data = orjson.loads(text)
    models = data["models"]
    return VirtualKey(
        **{
            **data,
            "models": None if models is None else tuple(models),
            "tags": tuple(data["tags"]),
            "budgets": _budgets(data["budgets"]),
            "limits": Limits(**data["limits"]),
        }
    )


def account_text(account: Account) -> str:
    return orjson.dumps(
        {
            "created": account.created,
            "budgets": budget_objects(account.budgets),
            "limits": limits_object(account.limits),
        }
    ).decode()


def read_account(kind: AccountKind, account_id: str, text: str) -> Account:
    data = orjson.loads(text)
    return Account(kind, account_id, data["created"], _budgets(data["budgets"]), Limits(**data["limits"]))


def budget_objects(budgets: Sequence[Budget]) -> list[dict[str, str]]:
    """Amounts are texts, so that they stay exact."""
    return [{"amount_usd": f"{budget.amount_usd:f}", "period": budget.period} for budget in budgets]


def limits_object(limits: Limits) -> dict[str, int | None]:
    return {
        "requests_per_minute": limits.requests_per_minute,
        "tokens_per_minute": limits.tokens_per_minute,
        "parallel_requests": limits.parallel_requests,
    }


def _budgets(objects: Sequence[Mapping[str, Any]]) -> tuple[Budget, ...]:
    return tuple(Budget(Decimal(data["amount_usd"]), data["period"]) for data in objects)
