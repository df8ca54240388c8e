"""Where keys, users, teams and tags are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from .account import Account, AccountKind
from .key import VirtualKey

PAGE = 100
"""Rows of a list, unless asked otherwise."""


@runtime_checkable
class AccountStore(Protocol):
    """Durable once a call returns; any number of processes may share one. Keys are never deleted, only revoked, so
    that the books' key ids keep their meaning. Lists are in the order of ids, those above `after`.

    Raises AccountsError where the store cannot be reached, AccountNotFoundError and AccountExistsError as they say.
    """

    async def add_key(self, key: VirtualKey) -> None:
        """Raises AccountExistsError for an id or a secret that is there already."""
        ...

    async def key(self, key_id: str) -> VirtualKey | None: ...

    async def key_by_hash(self, secret_hash: str) -> VirtualKey | None:
        """The key whose present or previous secret has this hash, good or not."""
        ...

    async def keys(
        self,
        *,
        after: str = "",
        limit: int = PAGE,
        name: str | None = None,
        user: str | None = None,
        team: str | None = None,
    ) -> Sequence[VirtualKey]: ...

    async def change_key(self, key_id: str, change: Callable[[VirtualKey], VirtualKey]) -> VirtualKey:
        """Replace a key by `change(key)`, atomically: of two changes at once neither is lost. Returns the new one.

        Raises AccountNotFoundError, and whatever `change` raises, which changes nothing.
        """
        ...

    async def has_keys(self) -> bool:
        """Whether any key was ever made, revoked ones included."""
        ...

    async def put_account(self, account: Account, *, replace: bool = True) -> None:
        """Raises AccountExistsError if it is there already and is not to be replaced."""
        ...

    async def account(self, kind: AccountKind, account_id: str) -> Account | None: ...

    async def accounts(
        self, kind: AccountKind, *, after: str = "", limit: int = PAGE
    ) -> Sequence[Account]: ...

    async def change_account(
        self, kind: AccountKind, account_id: str, change: Callable[[Account], Account]
    ) -> Account:
        """As `change_key`."""
        ...

    async def remove_account(self, kind: AccountKind, account_id: str) -> None:
        """Its budgets and limits end; what was spent stays in the books. Raises AccountNotFoundError."""
        ...

    async def aclose(self) -> None: ...
