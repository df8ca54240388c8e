"""What a store of accounts reports, said so that it can be mended."""

from __future__ import annotations

from pathlib import Path

from ..errors import AccountExistsError, AccountNotFoundError, AccountsError
from ..ledger.faults import fault
from .account import Account, AccountKind


def no_key(key_id: str) -> AccountNotFoundError:
    return AccountNotFoundError(f"there is no key {key_id!r}: list the keys there are", param="id")


def no_account(kind: AccountKind, account_id: str) -> AccountNotFoundError:
    return AccountNotFoundError(f"there is no {kind} {account_id!r}: create it first", param="id")


def exists(account: Account) -> AccountExistsError:
    return AccountExistsError(
        f"there is a {account.kind} {account.id!r} already: change that one, or choose another id", param="id"
    )


def accounts_error(path: Path, error: Exception) -> AccountsError:
    """The AccountsError for an error of SQLite or of the operating system."""
    return AccountsError(f"accounts {path} {fault(error, 'name another file or restore a copy')}")
