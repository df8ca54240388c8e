"""Accounts, a gate and a state that can fail, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from xrouter.accounts.account import Account, AccountKind
from xrouter.accounts.budget import Budget, Period
from xrouter.accounts.gate import Gate
from xrouter.accounts.memory import MemoryAccounts
from xrouter.accounts.store import AccountStore
from xrouter.errors import StateError
from xrouter.ledger.ledger import Ledger, Spent
from xrouter.ledger.memory import MemoryLedger
from xrouter.settings_tables.access import NO_LIMITS, AccessSettings, Limits
from xrouter.state.memory import MemoryState
from xrouter.state.state import Hold, State, Take

NOW = 1_795_000_000.0
"""2026-11-18 10:26:40 UTC, a Wednesday in ISO week 47."""
MODELS = ("small", "big")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FailingState(MemoryState):
    """Cannot be reached while `down`."""

    down = True

    async def take(self, takes: Sequence[Take]) -> tuple[int, float] | None:
        self._fail()
        return await super().take(takes)

    async def give_back(self, takes: Sequence[Take]) -> None:
        self._fail()
        await super().give_back(takes)

    async def reserve(self, reservation: str, holds: Sequence[Hold], *, ttl_s: float) -> int | None:
        self._fail()
        return await super().reserve(reservation, holds, ttl_s=ttl_s)

    async def settle(self, reservation: str, spent: Sequence[Spent]) -> None:
        self._fail()
        await super().settle(reservation, spent)

    def _fail(self) -> None:
        if self.down:
            raise StateError("nobody answers at redis://127.0.0.1:1")


def make_gate(
    store: AccountStore | None = None,
    *,
    ledger: Ledger | None = None,
    state: State | None = None,
    clock: Clock | None = None,
    require_keys: bool = True,
    **access: Any,
) -> Gate:
    clock = clock or Clock()
    return Gate(
        store or MemoryAccounts(),
        ledger or MemoryLedger(),
        state or MemoryState(clock=clock),
        AccessSettings(**access),
        require_keys=require_keys,
        request_timeout_s=600.0,
        clock=clock,
    )


def budget(amount: str, period: Period = "month") -> Budget:
    return Budget(Decimal(amount), period)


def account(kind: AccountKind, account_id: str, *budgets: Budget, limits: Limits = NO_LIMITS) -> Account:
    return Account(kind, account_id, NOW, budgets, limits)
