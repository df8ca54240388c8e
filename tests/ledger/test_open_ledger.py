from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from servers_kit import Postgres

from xrouter.errors import ConfigurationError
from xrouter.ledger.open import open_ledger
from xrouter.ledger.postgres import PostgresLedger
from xrouter.ledger.sqlite import SqliteLedger
from xrouter.settings import Settings


async def test_a_path_is_a_file(tmp_path: Path) -> None:
    ledger = open_ledger(Settings(ledger=tmp_path / "b.sqlite"))
    assert isinstance(ledger, SqliteLedger)
    await ledger.aclose()


async def test_a_url_is_a_database_and_takes_variables(postgres_server: Postgres, tmp_path: Path) -> None:
    url = postgres_server.emptied().replace("xrouter@", "xrouter:${SECRET}@")
    ledger = open_ledger(Settings(ledger=url), {"SECRET": "ge/heim"})
    assert isinstance(ledger, PostgresLedger)
    assert "heim" not in ledger.address
    await ledger.aclose()
    with pytest.raises(ConfigurationError, match="SECRET: set it"):
        open_ledger(Settings(ledger=url), {})


def test_nothing_of_it_is_loaded_unless_it_is_named(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
from pathlib import Path
from xrouter.gateway.app import Gateway
from xrouter.ledger.open import open_ledger
from xrouter.settings import Settings
from xrouter.state.open import open_state
settings = Settings(ledger=Path({str(tmp_path / "b.sqlite")!r}))
for opened in (open_ledger(settings), open_state(settings, 2)):
    asyncio.run(opened.aclose())
print([name for name in ("psycopg", "redis") if name in sys.modules])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xrouter.ledger.postgres", None)
    with pytest.raises(ConfigurationError, match=r"xrouter\[postgres\]"):
        open_ledger(Settings(ledger="postgresql://ann:geheim@h/d"))
