"""Books that cannot be written: nobody is answered without rows, and nobody is asked while that lasts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from accounts_kit import budget
from faults_kit import CHAT, PATHS, SECRET, Wired, ask, body_for, key_of, wired
from serving_kit import ask_then_select, make_pool
from upstream import MockUpstream

from xrouter.ledger.sqlite import SqliteLedger
from xrouter.router import Router
from xrouter.settings import Settings

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@asynccontextmanager
async def gateway_with_books(upstream: MockUpstream, path: Path) -> AsyncIterator[Wired]:
    router = Router(
        ask_then_select("small"),
        pool=make_pool(upstream.base_url),
        ledger=SqliteLedger(path, busy_timeout_s=0.2),
        settings=Settings(),
    )
    key = key_of(budgets=(budget("1", "total"),))
    async with wired(upstream.base_url, key, router=router) as gateway:
        yield gateway


async def one(gateway: Wired, path: str = CHAT, *, stream: bool = False) -> tuple[int, str | None]:
    got = await ask(gateway.url, path, body_for(path, stream=stream), secret=SECRET)
    return got.status, None if got.error is None else got.error.get("code") or got.error.get("type")


async def assert_refused_and_then_served(
    gateway: Wired, upstream: MockUpstream, books: Path, mend: Callable[[], object]
) -> None:
    """Begins with books that cannot be written; `mend()` makes them well."""
    before = len(upstream.requests)
    assert (await one(gateway))[0] == 500, "an answer whose rows are not written"
    asked = len(upstream.requests)
    assert asked == before + 1
    for path in PATHS:
        for stream in (False, True):
            assert (await one(gateway, path, stream=stream))[0] == 503
    assert len(upstream.requests) == asked, "models were asked while nothing could be booked"
    mend()
    await asyncio.sleep(1.1)
    assert await one(gateway) == (200, None)
    assert await one(gateway, stream=True) == (200, None)
    with sqlite3.connect(books) as connection:
        costs = [Decimal(cost) for (cost,) in connection.execute("SELECT cost_usd FROM episodes")]
        ((spent,),) = connection.execute("SELECT cost_usd FROM spent").fetchall()
    connection.close()
    assert len(costs) == 3
    assert Decimal(spent) == sum(costs)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk; test_pages_run_out fills the books without one")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


async def test_disk_full(mock_upstream: MockUpstream, small_disk: Path) -> None:
    books, filler = small_disk / "books.sqlite", small_disk / "filler"
    async with gateway_with_books(mock_upstream, books) as gateway:
        assert await one(gateway) == (200, None)
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        await assert_refused_and_then_served(gateway, mock_upstream, books, filler.unlink)


async def test_pages_run_out(
    mock_upstream: MockUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same by SQLite's own limit, for machines where no disk can be made."""
    books, limit, commit = tmp_path / "books.sqlite", [2_000_000], SqliteLedger._commit

    def limited(self: SqliteLedger, writer: sqlite3.Connection, bookings: Any) -> None:
        writer.execute(f"PRAGMA max_page_count = {limit[0]}")
        commit(self, writer, bookings)

    monkeypatch.setattr(SqliteLedger, "_commit", limited)
    async with gateway_with_books(mock_upstream, books) as gateway:
        assert await one(gateway) == (200, None)
        served = 1
        limit[0] = 1
        while (await one(gateway))[0] == 200:
            served += 1
            assert served < 500
        assert (await one(gateway))[0] == 503
        limit[0] = 2_000_000
        await asyncio.sleep(1.1)
        assert await one(gateway) == (200, None)


async def test_locked_by_another_process(mock_upstream: MockUpstream, tmp_path: Path) -> None:
    books = tmp_path / "books.sqlite"
    async with gateway_with_books(mock_upstream, books) as gateway:
        assert await one(gateway) == (200, None)
        holder = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", HOLDER, str(books)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert holder.stdin is not None
        assert holder.stdout is not None
        with holder:
            assert holder.stdout.readline() == "held\n"

            def release() -> None:
                holder.communicate("")

            await assert_refused_and_then_served(gateway, mock_upstream, books, release)


async def test_a_short_lock_is_waited_for(mock_upstream: MockUpstream, tmp_path: Path) -> None:
    books = tmp_path / "books.sqlite"
    async with gateway_with_books(mock_upstream, books) as gateway:
        other = sqlite3.connect(books, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        asking = asyncio.create_task(one(gateway))
        await asyncio.sleep(0.1)
        assert not asking.done()
        other.execute("ROLLBACK")
        other.close()
        assert await asking == (200, None)
