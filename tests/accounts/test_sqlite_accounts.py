"""What only accounts on disk can show: other processes, and files that hold something else."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from accounts_kit import NOW, budget

from xrouter.accounts.manage import create_key, revoke_key, rotate_key
from xrouter.accounts.sqlite import SqliteAccounts
from xrouter.errors import AccountsError
from xrouter.ledger.sqlite import SqliteLedger


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_keys_survive_closing_and_are_seen_by_others(tmp_path: Path) -> None:
    one, other = SqliteAccounts(tmp_path / "a.sqlite"), SqliteAccounts(tmp_path / "a.sqlite")
    made = await create_key(one, "k", NOW, user="ada", budgets=(budget("1"),))
    assert await other.key_by_hash(made.key.hash) == made.key
    revoked = await revoke_key(other, made.key.id, NOW)
    assert await one.key(made.key.id) == revoked
    await one.aclose()
    await other.aclose()
    again = SqliteAccounts(tmp_path / "a.sqlite")
    assert await again.key(made.key.id) == revoked
    assert await again.account("user", "ada") is not None
    await again.aclose()


async def test_no_secret_is_in_the_file(tmp_path: Path) -> None:
    store = SqliteAccounts(tmp_path / "a.sqlite")
    made = await create_key(store, "k", NOW)
    rotated = await rotate_key(store, made.key.id, NOW, grace_s=9)
    await store.aclose()
    for file in files(tmp_path):
        text = file.read_bytes()
        for secret in (made.secret, rotated.secret):
            assert secret.encode() not in text
            assert secret[3:].encode() not in text


async def test_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    store = SqliteAccounts(tmp_path / "a.sqlite")
    await create_key(store, "k", NOW)
    for file in files(tmp_path):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    await store.aclose()


async def test_both_indices_serve_the_look_up(tmp_path: Path) -> None:
    store = SqliteAccounts(tmp_path / "a.sqlite")
    with closing(sqlite3.connect(store.path)) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT body FROM keys WHERE hash = ?1 OR previous_hash = ?1", ("x",)
        ).fetchall()
    assert not any("SCAN" in row[3] for row in plan), plan
    await store.aclose()


async def test_a_ledger_is_no_store_of_accounts_nor_the_other_way_round(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "books.sqlite")
    await ledger.aclose()
    with pytest.raises(AccountsError, match="holds no accounts"):
        SqliteAccounts(ledger.path)
    again = SqliteLedger(ledger.path)
    await again.aclose()


async def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    await SqliteAccounts(tmp_path / "a.sqlite").aclose()
    with closing(sqlite3.connect(tmp_path / "a.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(AccountsError, match="schema version 99"):
        SqliteAccounts(tmp_path / "a.sqlite")


async def test_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_text("not a database, but long enough to look at" * 30)
    with pytest.raises(AccountsError, match="no sound SQLite file"):
        SqliteAccounts(tmp_path / "a.sqlite")
    with pytest.raises(AccountsError, match="cannot be opened"):
        SqliteAccounts(tmp_path)


async def test_readers_do_not_wait_for_a_writer_and_writers_say_who_holds_the_file(tmp_path: Path) -> None:
    store = SqliteAccounts(tmp_path / "a.sqlite", busy_timeout_s=0.05)
    made = await create_key(store, "k", NOW)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await store.key(made.key.id) == made.key
        with pytest.raises(AccountsError, match="locked by another process"):
            await revoke_key(store, made.key.id, NOW)
        other.execute("ROLLBACK")
    await revoke_key(store, made.key.id, NOW)
    await store.aclose()


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SqliteAccounts(tmp_path / "a.sqlite")
    await asyncio.gather(store.aclose(), store.aclose())
    with pytest.raises(AccountsError, match="closed"):
        await store.has_keys()
