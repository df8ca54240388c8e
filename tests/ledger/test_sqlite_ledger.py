"""What only books on disk can show: durability, other processes, files that are no ledgers."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ledger_kit import call_entry, episode_entry

from xrouter.errors import LedgerError
from xrouter.ledger.faults import ledger_error
from xrouter.ledger.sqlite import SqliteLedger

TESTS = Path(__file__).parents[1]

WRITER = """
import asyncio, sys
from ledger_kit import call_entry, episode_entry
from xrouter.ledger.sqlite import SqliteLedger

async def main(path, name, count):
    ledger = SqliteLedger(path)
    async def one(i):
        await ledger.book(episode_entry(f"{name}-{i}"), [call_entry(f"{name}-{i}", f"c{k}") for k in range(3)])
        print(f"{name}-{i}", flush=True)
    for start in range(0, count, 8):
        await asyncio.gather(*(one(start + k) for k in range(8)))
    await ledger.aclose()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )


async def test_rows_survive_closing_exactly(tmp_path: Path) -> None:
    path = tmp_path / "new" / "books.sqlite"
    ledger = SqliteLedger(path)
    episode = episode_entry("e1", at=1.5, cost="0.000000000001", reference="1E-7", error="x", simulated=True)
    calls = [call_entry("e1", "c1", cost="0.000000000001"), call_entry("e1", "c2", error="503")]
    await ledger.book(episode, calls)
    await ledger.aclose()
    again = SqliteLedger(path)
    assert again.entries("e1") == (episode, calls)
    assert again.entries("e2") is None
    await again.aclose()


def test_every_acknowledged_row_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite"
    process = writer(path, "w", 100_000)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    acknowledged += [
        line.strip() for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")
    ]
    process.wait()
    process.stdout.close()
    ledger = SqliteLedger(path)
    assert len(acknowledged) >= 50
    for episode_id in acknowledged:
        entries = ledger.entries(episode_id)
        assert entries is not None, episode_id
        assert len(entries[1]) == 3
    totals = ledger.totals()
    assert totals.calls == 3 * totals.requests
    assert totals.requests < 100_000
    asyncio.run(ledger.aclose())


def test_many_processes_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite"
    processes = [writer(path, f"w{i}", 80) for i in range(3)]
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert len(out.splitlines()) == 80
    ledger = SqliteLedger(path)
    assert (ledger.totals().requests, ledger.totals().calls) == (240, 720)
    asyncio.run(ledger.aclose())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE episodes SET cost_usd = '0'",
        "DELETE FROM episodes",
        "UPDATE calls SET turn = 9",
        "DELETE FROM calls",
    ],
)
async def test_rows_cannot_be_changed(tmp_path: Path, statement: str) -> None:
    ledger = SqliteLedger(tmp_path / "books.sqlite")
    await ledger.book(episode_entry("e1"), [call_entry("e1", "c1")])
    connection = sqlite3.connect(ledger.path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()
    await ledger.aclose()


async def test_the_file_is_as_durable_as_sqlite_can_be(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "books.sqlite")
    with sqlite3.connect(ledger.path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    await ledger.aclose()


async def test_waiting_bookings_share_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    commit = SqliteLedger._commit

    def counted(ledger: SqliteLedger, connection: sqlite3.Connection, bookings: Sequence[Any]) -> None:
        sizes.append(len(bookings))
        commit(ledger, connection, bookings)

    monkeypatch.setattr(SqliteLedger, "_commit", counted)
    ledger = SqliteLedger(tmp_path / "books.sqlite")
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # the first commit waits for this lock, and the others for the first
        bookings = [asyncio.create_task(ledger.book(episode_entry(f"e{i}"), [])) for i in range(400)]
        await asyncio.sleep(0.3)
        other.execute("COMMIT")
    await asyncio.gather(*bookings)
    await ledger.aclose()
    assert sum(sizes) == 400
    assert len(sizes) <= 4


async def test_a_booking_that_nobody_waits_for_is_written(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "books.sqlite")
    task = asyncio.create_task(ledger.book(episode_entry("e1"), []))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await ledger.aclose()
    assert ledger.totals().requests == 1


async def test_text_that_cannot_be_stored_fails_its_own_booking_alone(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "books.sqlite")
    results = await asyncio.gather(
        ledger.book(episode_entry("e1", route="\ud800"), []),
        ledger.book(episode_entry("e2"), []),
        return_exceptions=True,
    )
    assert isinstance(results[0], LedgerError)
    assert results[1] == []
    with pytest.raises(LedgerError, match="not an amount"):
        await ledger.book(episode_entry("e3", cost="NaN"), [])
    await ledger.book(episode_entry("e4", cost="0.5"), [])
    assert ledger.totals().spend_usd == Decimal("0.51")
    await ledger.aclose()


async def test_rows_are_the_same_with_and_without_a_bad_neighbour(tmp_path: Path) -> None:
    """Bookings of one commit go in together; where one is at fault, one after the other."""
    found: list[list[Any]] = []
    for neighbour in ("good", "bad\ud800"):
        ledger = SqliteLedger(tmp_path / f"{len(found)}.sqlite")
        some = [(episode_entry(f"e{i}", cost="0.1"), [call_entry(f"e{i}", "c1")]) for i in range(5)]
        some.insert(2, (episode_entry(neighbour), []))
        booked = await asyncio.gather(
            *(ledger.book(episode, calls, ["key:k/ever"]) for episode, calls in some), return_exceptions=True
        )
        assert [isinstance(outcome, LedgerError) for outcome in booked].count(True) == len(found)
        await ledger.aclose()
        with closing(sqlite3.connect(ledger.path)) as books:
            found.append(
                [
                    books.execute("SELECT * FROM episodes WHERE episode_id LIKE 'e%' ORDER BY 1").fetchall(),
                    books.execute("SELECT * FROM calls ORDER BY 1").fetchall(),
                ]
            )
            (spent,) = books.execute("SELECT cost_usd FROM spent").fetchone()
            cost = sum(Decimal(cost) for (cost,) in books.execute("SELECT cost_usd FROM episodes"))
            assert Decimal(spent) == cost
    assert found[0] == found[1]
    assert len(found[0][0]) == 5


async def test_a_locked_file_is_an_error_not_a_hang(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "books.sqlite", busy_timeout_s=0.1)
    holder = sqlite3.connect(ledger.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="locked by another process"):
        await ledger.book(episode_entry("e1"), [])
    with pytest.raises(LedgerError, match="locked by another process"):
        SqliteLedger(ledger.path, busy_timeout_s=0.1)
    holder.execute("ROLLBACK")
    holder.close()
    await ledger.book(episode_entry("e1"), [])
    await ledger.aclose()


def test_files_that_are_no_ledger_of_this_version(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("not a database " * 100)
    with pytest.raises(LedgerError, match="no sound SQLite file"):
        SqliteLedger(text)
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    with pytest.raises(LedgerError, match="no ledger"):
        SqliteLedger(other)
    connection.execute("CREATE TABLE schema_version (version INTEGER)")
    connection.execute("INSERT INTO schema_version VALUES (99)")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerError, match="schema version 99"):
        SqliteLedger(other)


async def test_an_older_ledger_is_brought_up_to_date_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite"
    ledger = SqliteLedger(path)
    await ledger.book(episode_entry("old"), [call_entry("old", "c1")])
    await ledger.aclose()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE spent")
        for column in reversed(
            [
                "target_quality",
                "outside_training",
                "key_id",
                "user",
                "team",
                "tags",
                "session",
                "trace_id",
                "cache",
                "saved_usd",
            ]
        ):
            connection.execute(f"ALTER TABLE episodes DROP COLUMN {column}")
        connection.execute("UPDATE schema_version SET version = 1")
        connection.commit()

    for _ in range(2):
        ledger = SqliteLedger(path)
        assert ledger.entries("old") == (episode_entry("old"), [call_entry("old", "c1")])
        await ledger.aclose()
    ledger = SqliteLedger(path)
    new = replace(episode_entry("new"), target_quality=0.9)
    await ledger.book(new, [])
    assert ledger.entries("new") == (new, [])
    assert ledger.totals().requests == 2
    await ledger.aclose()


def test_paths_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot be opened for writing"):
        SqliteLedger(tmp_path / "file" / "books.sqlite")
    with pytest.raises(LedgerError, match="cannot be opened for writing"):
        SqliteLedger(tmp_path)


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "full.sqlite")
    connection.execute("CREATE TABLE t (x)")
    connection.execute("PRAGMA max_page_count = 3")
    with pytest.raises(sqlite3.OperationalError) as raised:
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    connection.close()
    assert "disk is full" in ledger_error(tmp_path / "full.sqlite", raised.value).message
