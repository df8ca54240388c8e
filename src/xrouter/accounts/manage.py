"""What administrators do with keys and accounts: the admin API and the command line both come here.

Every function checks what it is given and raises RequestError (AccountNotFoundError, AccountExistsError) naming the
field, or AccountsError.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ..errors import AccountExistsError, RequestError
from ..settings_tables.access import NO_LIMITS, Limits
from .account import Account, AccountKind, checked_id, checked_name
from .budget import Budget
from .key import VirtualKey, hash_of, new_id, new_secret, shown
from .store import AccountStore

MAX_WORDS = 200
"""Models or tags of one key."""


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A key with its secret, which is nowhere else: show it once."""

    key: VirtualKey
    secret: str


async def create_key(store: AccountStore, name: str, now: float, **fields: Any) -> NewSecret:
    """A new key. `fields` are those of `change_key`. A user or team that it names and that is not there is made."""
    secret = new_secret()
    key = VirtualKey(new_id(), checked_name(name), hash_of(secret), shown(secret), now)
    key = replace(key, **_checked(fields, now))
    await store.add_key(key)
    await _make_accounts(store, key, now)
    return NewSecret(key, secret)


async def change_key(store: AccountStore, key_id: str, now: float, **fields: Any) -> VirtualKey:
    """Change some of name, user, team, models, tags, expires_at (Unix seconds), budgets and limits."""
    checked = _checked(fields, now)
    key = await store.change_key(key_id, lambda before: replace(_live(before), **checked))
    await _make_accounts(store, key, now)
    return key


async def rotate_key(store: AccountStore, key_id: str, now: float, grace_s: float = 0.0) -> NewSecret:
    """Give a key a new secret; the old one is still taken for `grace_s` seconds. Budgets and spending go on."""
    if not math.isfinite(grace_s) or grace_s < 0:
        raise RequestError(f"grace_s must be seconds from 0 up, got {grace_s}", param="grace_s")
    secret = new_secret()

    def rotated(key: VirtualKey) -> VirtualKey:
        _live(key)
        previous = (key.hash, now + grace_s) if grace_s else (None, None)
        return replace(
            key,
            hash=hash_of(secret),
            shown=shown(secret),
            previous_hash=previous[0],
            previous_until=previous[1],
        )

    return NewSecret(await store.change_key(key_id, rotated), secret)


async def revoke_key(store: AccountStore, key_id: str, now: float) -> VirtualKey:
    """End a key for good. Of a key that is revoked already, the time stays."""
    return await store.change_key(
        key_id,
        lambda key: replace(key, revoked=key.revoked or now, previous_hash=None, previous_until=None),
    )


async def create_account(
    store: AccountStore,
    kind: AccountKind,
    account_id: object,
    now: float,
    budgets: Sequence[Budget] = (),
    limits: Limits = NO_LIMITS,
) -> Account:
    account = Account(kind, checked_id(account_id, "id"), now, _one_a_period(budgets), limits)
    await store.put_account(account, replace=False)
    return account


async def change_account(store: AccountStore, kind: AccountKind, account_id: str, **fields: Any) -> Account:
    """Change `budgets`, `limits` or both."""
    if "budgets" in fields:
        fields["budgets"] = _one_a_period(fields["budgets"])
    return await store.change_account(kind, account_id, lambda account: replace(account, **fields))


def _live(key: VirtualKey) -> VirtualKey:
    if key.revoked is not None:
        raise RequestError(f"key {key.id!r} is revoked, for good: create another", param="id")
    return key


async def _make_accounts(store: AccountStore, key: VirtualKey, now: float) -> None:
    named: list[tuple[AccountKind, str | None]] = [("user", key.user), ("team", key.team)]
    for kind, account_id in named:
        if account_id is not None and await store.account(kind, account_id) is None:
            with suppress(AccountExistsError):
                await store.put_account(Account(kind, account_id, now), replace=False)


def _checked(fields: dict[str, Any], now: float) -> dict[str, Any]:
    checked = dict(fields)
    if "name" in checked:
        checked["name"] = checked_name(checked["name"])
    for kind in ("user", "team"):
        if checked.get(kind) is not None:
            checked[kind] = checked_id(checked[kind], kind)
    if "tags" in checked:
        checked["tags"] = tuple(
            dict.fromkeys(checked_id(tag, "tags") for tag in _few(checked["tags"], "tags"))
        )
    if checked.get("models") is not None:
        models = tuple(dict.fromkeys(_few(checked["models"], "models")))
        if not models or not all(isinstance(model, str) and model for model in models):
            raise RequestError(
                "models must name at least one model or glob such as 'gpt-*'; leave it out for all models",
                param="models",
            )
        checked["models"] = models
    expires_at = checked.get("expires_at")
    if expires_at is not None and not (math.isfinite(expires_at) and expires_at > now):
        raise RequestError(f"expires_at must lie in the future, got {expires_at}", param="expires_at")
    if "budgets" in checked:
        checked["budgets"] = _one_a_period(checked["budgets"])
    return checked


def _few(words: Sequence[Any], param: str) -> Sequence[Any]:
    if len(words) > MAX_WORDS:
        raise RequestError(f"{param} may have {MAX_WORDS} entries, got {len(words)}", param=param)
    return words


def _one_a_period(budgets: Sequence[Budget]) -> tuple[Budget, ...]:
    periods = [budget.period for budget in budgets]
    if len(set(periods)) != len(periods):
        raise RequestError("budgets may hold one budget a period: day, week, month, total", param="budgets")
    return tuple(budgets)
