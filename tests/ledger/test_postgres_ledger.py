"""What only books in PostgreSQL can show: a server that goes and comes back, and several gateways."""

from __future__ import annotations

import asyncio
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ledger_kit import call_entry, episode_entry
from servers_kit import Postgres

from xrouter.errors import ConfigurationError, LedgerError
from xrouter.ledger import postgres as postgres_module
from xrouter.ledger.ledger import Spent
from xrouter.ledger.postgres import PostgresLedger


@pytest.fixture
def url(postgres_server: Postgres, tmp_path: Path) -> str:
    return postgres_server.emptied()


def run(url: str, statement: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall() if "SELECT" in statement else (
            connection.execute(statement.encode())
        )  # fmt: skip


async def book(ledger: PostgresLedger, name: str, scopes: tuple[str, ...] = ()) -> Any:
    return await ledger.book(episode_entry(name), [call_entry(name, "c1"), call_entry(name, "c2")], scopes)


async def test_rows_cannot_be_changed(url: str) -> None:
    async with aclosing(PostgresLedger(url)) as ledger:
        await book(ledger, "e1")
        for statement in (
            "UPDATE xrouter.episodes SET cost_usd = 0",
            "DELETE FROM xrouter.calls",
            "TRUNCATE xrouter.calls",
        ):
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                run(url, statement)
        assert ledger.entries("e1") == (
            episode_entry("e1"),
            [call_entry("e1", "c1"), call_entry("e1", "c2")],
        )
        assert ledger.entries("e2") is None


def test_gateways_that_start_together_make_the_tables_once(url: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        ledgers = list(threads.map(lambda _: PostgresLedger(url), range(8)))
    assert run(url, "SELECT version FROM xrouter.ledger_version") == [(1,)]
    for ledger in ledgers:
        asyncio.run(ledger.aclose())


def test_books_of_a_newer_program_are_left_alone(url: str) -> None:
    asyncio.run(PostgresLedger(url).aclose())
    run(url, "INSERT INTO xrouter.ledger_version (version) VALUES (99)")
    with pytest.raises(LedgerError, match="schema version 99"):
        PostgresLedger(url)


async def test_many_bookings_share_a_transaction(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    write = postgres_module.write

    def counted(connection: Any, bookings: Any) -> Any:
        sizes.append(len(bookings))
        return write(connection, bookings)

    monkeypatch.setattr(postgres_module, "write", counted)
    async with aclosing(PostgresLedger(url)) as ledger:
        await asyncio.gather(*(book(ledger, f"e{i}") for i in range(500)))
    assert sum(sizes) == 500
    assert len(sizes) < 50


async def test_gateways_that_charge_the_same_scopes_never_wait_for_each_other_forever(url: str) -> None:
    async with aclosing(PostgresLedger(url)) as one, aclosing(PostgresLedger(url)) as two:
        scopes = [f"key:{i}" for i in range(20)]
        spent = await asyncio.gather(
            *(book(one, f"a{i}", tuple(scopes)) for i in range(150)),
            *(book(two, f"b{i}", tuple(reversed(scopes))) for i in range(150)),
        )
        assert sorted(its[0].version for its in spent[:150] + [its[::-1] for its in spent[150:]]) == list(
            range(1, 301)
        )
        assert await one.spent(["key:7", "none"]) == [Spent("key:7", Decimal(3), 300), Spent("none")]


async def test_a_connection_that_is_cut_costs_no_booking_and_doubles_none(url: str) -> None:
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{url.split('/')[-1]}'"
    admin = url.rpartition("/")[0] + "/postgres"
    async with aclosing(PostgresLedger(url)) as ledger:
        done = 0

        async def load(worker: int) -> None:
            nonlocal done
            for i in range(40):
                await book(ledger, f"w{worker}-{i}", ("key:a",))
                done += 1

        tasks = [asyncio.create_task(load(worker)) for worker in range(8)]
        for _ in range(8):
            before = done
            await asyncio.to_thread(run, admin, cut)
            while done < min(320, before + 20):  # noqa: ASYNC110 - the load has no event to wait for
                await asyncio.sleep(0.002)
        await asyncio.gather(*tasks)
        totals = ledger.totals()
        assert (totals.requests, totals.calls, totals.spend_usd) == (320, 640, Decimal("3.2"))
        assert await ledger.spent(["key:a"]) == [Spent("key:a", Decimal("3.2"), 320)]


async def test_what_a_lost_connection_had_committed_is_not_booked_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = postgres_module.write, []

    def lose_the_answer(connection: Any, bookings: Any) -> Any:
        result = write(connection, bookings)
        calls.append(bookings)
        if len(calls) == 1:
            connection.pgconn.finish()
            raise psycopg.OperationalError("connection lost")
        return result

    async with aclosing(PostgresLedger(url)) as ledger:
        monkeypatch.setattr(postgres_module, "write", lose_the_answer)
        assert await book(ledger, "e1", ("key:a",)) == [Spent("key:a", Decimal("0.01"), 1)]
        assert ledger.totals().requests == 1


async def test_a_server_that_restarts_is_waited_for(url: str, postgres_server: Postgres) -> None:
    async with aclosing(PostgresLedger(url)) as ledger:
        await book(ledger, "before")
        ledger.totals()
        restart = asyncio.create_task(asyncio.to_thread(postgres_server.restart, 0.3))
        for i in range(100):
            await book(ledger, f"e{i}", ("key:a",))
            await asyncio.sleep(0.005)
        await restart
        assert ledger.totals().requests == 101
        assert (await ledger.spent(["key:a"]))[0].version == 100


async def test_a_server_that_stays_away_fails_bookings_until_it_is_back(
    url: str, postgres_server: Postgres
) -> None:
    async with aclosing(PostgresLedger(url, patience_s=0.3)) as ledger:
        await book(ledger, "before")
        await asyncio.to_thread(postgres_server.stop, signal.SIGQUIT)
        try:
            with pytest.raises(LedgerError, match="cannot be used"):
                await book(ledger, "lost")
            started = time.monotonic()
            with pytest.raises(LedgerError, match="cannot be used"):
                await book(ledger, "lost too")
            assert time.monotonic() - started < 0.25, "it waited for a server that is known to be away"
            with pytest.raises(LedgerError):
                await ledger.spent(["key:a"])
            with pytest.raises(LedgerError):
                PostgresLedger(url)
        finally:
            await asyncio.to_thread(postgres_server.start)
        await book(ledger, "after")
        assert ledger.totals().requests == 2


async def test_a_server_that_hangs_does_not_hold_the_client(url: str, postgres_server: Postgres) -> None:
    async with aclosing(PostgresLedger(url, timeout_s=0.5)) as ledger:
        await book(ledger, "before")
        run(url, "SELECT 1")
        connection = psycopg.connect(url)
        connection.execute("LOCK TABLE xrouter.episodes")
        with pytest.raises(LedgerError, match="did not answer"):
            await book(ledger, "slow")
        connection.close()
        await book(ledger, "after")
        assert ledger.totals().requests == 3, "what was under way is written once the server answers"


def test_no_message_shows_a_password(postgres_server: Postgres) -> None:
    for url in (
        f"postgresql://ann:geheim@127.0.0.1:{postgres_server.port}/nowhere",
        "postgresql://ann:geheim@127.0.0.1:1/db",
        "postgresql://ann@127.0.0.1:1/db?password=geheim",
        "postgresql://ann:ge%heim@127.0.0.1/db",
        "postgresql://ann:x@127.0.0.1/db?geheim",
    ):
        with pytest.raises((LedgerError, ConfigurationError)) as caught:
            PostgresLedger(url)
        assert "eheim" not in str(caught.value).replace("?geheim", "")
        assert "ann" in str(caught.value)
