"""What only accounts in PostgreSQL can show: a server that goes, two gateways that start at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from accounts_kit import NOW, budget
from servers_kit import Postgres

from xrouter.accounts.manage import create_key, revoke_key
from xrouter.accounts.postgres import PostgresAccounts
from xrouter.errors import AccountsError, ConfigurationError
from xrouter.ledger.postgres import PostgresLedger


async def test_two_gateways_start_at_once_beside_a_ledger(postgres_server: Postgres, tmp_path: Path) -> None:
    url = postgres_server.emptied()
    ledger = PostgresLedger(url)
    one, other = await asyncio.gather(*(asyncio.to_thread(PostgresAccounts, url) for _ in range(2)))
    made = await create_key(one, "k", NOW, team="search", budgets=(budget("1"),))
    assert await other.key_by_hash(made.key.hash) == made.key
    revoked = await revoke_key(other, made.key.id, NOW)
    assert await one.key(made.key.id) == revoked
    for store in (one, other, ledger):
        await store.aclose()


async def test_a_server_that_goes_and_comes_back(postgres_server: Postgres, tmp_path: Path) -> None:
    store = PostgresAccounts(postgres_server.emptied())
    made = await create_key(store, "k", NOW)
    await asyncio.to_thread(postgres_server.restart)
    assert await store.key(made.key.id) == made.key, "a connection that died while idle is made anew"
    await asyncio.to_thread(postgres_server.stop)
    with pytest.raises(AccountsError, match="check that the server runs"):
        await store.key(made.key.id)
    await asyncio.to_thread(postgres_server.start)
    assert (await revoke_key(store, made.key.id, NOW)).revoked == NOW
    await store.aclose()


def test_no_server_and_no_url() -> None:
    with pytest.raises(
        AccountsError, match=r"postgresql://xrouter@127\.0\.0\.1:1/x cannot be used"
    ) as refused:
        PostgresAccounts("postgresql://xrouter:hush@127.0.0.1:1/x")
    assert "hush" not in str(refused.value)
    with pytest.raises(ConfigurationError, match=r"access\.store") as wrong:
        PostgresAccounts("postgresql://u:hu%sh@127.0.0.1:1/x")
    assert "hu%sh" not in str(wrong.value)
