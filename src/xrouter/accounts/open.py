"""The store of accounts that the settings name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..settings_tables.addresses import expanded, shown
from .store import AccountStore

if TYPE_CHECKING:
    from ..settings import Settings


def open_accounts(settings: Settings, env: Mapping[str, str] | None = None) -> AccountStore:
    """SQLite for a path, PostgreSQL for a URL; where nothing is set, a file beside the ledger or the ledger's own
    database. Blocks.

    Raises ConfigurationError where the client library is missing, AccountsError where the store cannot be opened.
    """
    place = accounts_place(settings)
    if isinstance(place, Path):
        from .sqlite import SqliteAccounts

        return SqliteAccounts(place)
    try:
        from .postgres import PostgresAccounts
    except ImportError as error:
        raise ConfigurationError(
            f"accounts in {shown(place)!r} need the client library: pip install 'xrouter[postgres]'",
            param="access.store",
        ) from error
    return PostgresAccounts(expanded(place, os.environ if env is None else env, param="access.store"))


def accounts_place(settings: Settings) -> Path | str:
    """The path or URL: `books.sqlite` has its accounts in `books.accounts.sqlite`."""
    if settings.access.store is not None:
        return settings.access.store
    if isinstance(settings.ledger, Path):
        return settings.ledger.with_name(f"{settings.ledger.stem}.accounts.sqlite")
    return settings.ledger
