"""The books that the settings name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..settings_tables.addresses import expanded, shown

if TYPE_CHECKING:
    from ..settings import Settings
    from .postgres import PostgresLedger
    from .sqlite import SqliteLedger


def open_ledger(settings: Settings, env: Mapping[str, str] | None = None) -> SqliteLedger | PostgresLedger:
    """SQLite for a path, PostgreSQL for a URL; ${NAME} in the URL is taken from the environment. Blocks.

    Raises ConfigurationError where the client library is missing, LedgerError where the books cannot be opened.
    """
    if isinstance(settings.ledger, Path):
        from .sqlite import SqliteLedger

        return SqliteLedger(settings.ledger)
    try:
        from .postgres import PostgresLedger
    except ImportError as error:
        raise ConfigurationError(
            f"ledger = {shown(settings.ledger)!r} needs the client library: pip install 'xrouter[postgres]'",
            param="ledger",
        ) from error
    return PostgresLedger(expanded(settings.ledger, os.environ if env is None else env, param="ledger"))
