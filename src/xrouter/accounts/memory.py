"""Accounts in memory: for tests and notebooks. Nothing survives the process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import AccountExistsError
from .account import Account, AccountKind
from .faults import exists, no_account, no_key
from .key import VirtualKey
from .store import PAGE


class MemoryAccounts:
    def __init__(self) -> None:
        self._keys: dict[str, VirtualKey] = {}
        self._by_hash: dict[str, str] = {}
        self._accounts: dict[tuple[AccountKind, str], Account] = {}

    async def add_key(self, key: VirtualKey) -> None:
        if key.id in self._keys or key.hash in self._by_hash:
            raise AccountExistsError(f"key {key.id!r} or its secret is there already: make another")
        self._keep(key)

    async def key(self, key_id: str) -> VirtualKey | None:
        return self._keys.get(key_id)

    async def key_by_hash(self, secret_hash: str) -> VirtualKey | None:
        return self._keys.get(self._by_hash.get(secret_hash, ""))

    async def keys(
        self,
        *,
        after: str = "",
        limit: int = PAGE,
        name: str | None = None,
        user: str | None = None,
        team: str | None = None,
    ) -> Sequence[VirtualKey]:
        found = [
            key
            for key_id, key in sorted(self._keys.items())
            if key_id > after
            and name in (None, key.name)
            and user in (None, key.user)
            and team in (None, key.team)
        ]
        return found[:limit]

    async def change_key(self, key_id: str, change: Callable[[VirtualKey], VirtualKey]) -> VirtualKey:
        before = self._keys.get(key_id)
        if before is None:
            raise no_key(key_id)
        after = change(before)
        for secret_hash in (before.hash, before.previous_hash):
            self._by_hash.pop(secret_hash or "", None)
        self._keep(after)
        return after

    async def has_keys(self) -> bool:
        return bool(self._keys)

    async def put_account(self, account: Account, *, replace: bool = True) -> None:
        if not replace and (account.kind, account.id) in self._accounts:
            raise exists(account)
        self._accounts[account.kind, account.id] = account

    async def account(self, kind: AccountKind, account_id: str) -> Account | None:
        return self._accounts.get((kind, account_id))

    async def accounts(self, kind: AccountKind, *, after: str = "", limit: int = PAGE) -> Sequence[Account]:
        ids = sorted(i for k, i in self._accounts if k == kind and i > after)
        return [self._accounts[kind, account_id] for account_id in ids[:limit]]

    async def change_account(
        self, kind: AccountKind, account_id: str, change: Callable[[Account], Account]
    ) -> Account:
        before = self._accounts.get((kind, account_id))
        if before is None:
            raise no_account(kind, account_id)
        after = self._accounts[kind, account_id] = change(before)
        return after

    async def remove_account(self, kind: AccountKind, account_id: str) -> None:
        if self._accounts.pop((kind, account_id), None) is None:
            raise no_account(kind, account_id)

    async def aclose(self) -> None:
        """Nothing to close."""

    def _keep(self, key: VirtualKey) -> None:
        self._keys[key.id] = key
        for secret_hash in (key.hash, key.previous_hash):
            if secret_hash is not None:
                self._by_hash[secret_hash] = key.id
