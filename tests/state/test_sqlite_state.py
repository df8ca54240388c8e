"""What only state in a file can show: several processes, files that are something else, a bounded size."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from xrouter.errors import StateError
from xrouter.ledger.ledger import Spent
from xrouter.state import sqlite_work
from xrouter.state.sqlite import SqliteState
from xrouter.state.state import Hold, Take

WORKER = """
import asyncio, sys
from xrouter.ledger.ledger import Spent
from xrouter.state.sqlite import SqliteState
from xrouter.state.state import Hold, Take

async def main():
    state = SqliteState(sys.argv[1])
    holds = [state.reserve(f"{sys.argv[2]}-{i}", [Hold(Spent("key:a"), 1, 100)], ttl_s=60) for i in range(90)]
    takes = [state.take([Take("b", 1, 50, 0.0001)]) for i in range(90)]
    print((await asyncio.gather(*holds)).count(None), (await asyncio.gather(*takes)).count(None))
    await state.aclose()

asyncio.run(main())
"""


def test_processes_share_limits(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path / "new" / "state.sqlite"), str(number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    granted = [[int(count) for count in worker.communicate(timeout=60)[0].split()] for worker in workers]
    assert [sum(counts) for counts in zip(*granted, strict=True)] == [100, 50]


async def test_a_locked_file_does_not_block_the_loop(tmp_path: Path) -> None:
    async with aclosing(SqliteState(tmp_path / "state.sqlite", busy_timeout_s=0.3)) as state:
        with closing(sqlite3.connect(state.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            asked = asyncio.create_task(state.put("a", b"1", ttl_s=60))
            longest, last = 0.0, time.monotonic()
            while not asked.done():
                await asyncio.sleep(0.005)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
            with pytest.raises(StateError, match="locked"):
                await asked
            assert longest < 0.2
            other.execute("ROLLBACK")
        await state.put("a", b"2", ttl_s=60)
        assert await state.get("a") == b"2"


async def test_a_wait_that_is_cancelled_leaves_things_whole(tmp_path: Path) -> None:
    async with aclosing(SqliteState(tmp_path / "state.sqlite")) as state:
        tasks = [
            asyncio.create_task(state.reserve(f"r{i}", [Hold(Spent("k"), 1, 5)], ttl_s=60)) for i in range(5)
        ]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await state.reserve("r", [Hold(Spent("k"), 1, 5)], ttl_s=60) == 0
        for i in range(5):
            await state.settle(f"r{i}", [])
        assert await state.reserve("r", [Hold(Spent("k"), 5, 5)], ttl_s=60) is None


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database, but long enough to be looked at" * 100)
    with pytest.raises(StateError, match="delete it"):
        SqliteState(tmp_path / "notes.txt")
    other = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE kept (mine)")
        connection.commit()
    with pytest.raises(StateError, match="something else"):
        SqliteState(other)
    with closing(sqlite3.connect(other)) as connection:
        assert connection.execute("SELECT * FROM kept").fetchall() == []
    with pytest.raises(StateError, match="cannot be opened"):
        SqliteState(tmp_path)


async def test_state_of_another_version_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.sqlite"
    async with aclosing(SqliteState(path)) as state:
        await state.put("a", b"1", ttl_s=60)
    async with aclosing(SqliteState(path)) as state:
        assert await state.get("a") == b"1"
    monkeypatch.setattr(sqlite_work, "_VERSION", 99)
    async with aclosing(SqliteState(path)) as state:
        assert await state.get("a") is None


async def test_what_lapsed_is_swept_and_the_size_is_bounded(tmp_path: Path) -> None:
    now = 1000.0
    state = SqliteState(tmp_path / "state.sqlite", clock=lambda: now, max_bytes=400_000)
    async with aclosing(state):
        await state.take([Take("b", 1, 10, 1)])
        await state.put("short", b"1", ttl_s=1)
        for i in range(100):
            await state.put(f"v{i}", bytes(10_000), ttl_s=100 + i)
            now += 1.1
        with closing(sqlite3.connect(state.path)) as connection:
            assert connection.execute("SELECT count(*) FROM buckets").fetchone() == (0,)
            (kept,) = connection.execute("SELECT count(*) FROM kept").fetchone()
        assert 10 < kept < 45
        assert await state.get("v99") is not None
