"""One SQLite file for all processes of a run that calls live models: the answers, and the money.

One thread owns the connection and does whatever waits in one transaction, on disk before anybody is told. The file's
processes must be on one host.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from ..errors import RunBooksError
from ..ledger.faults import fault
from ..ledger.sqlite_file import open_file
from ..ledger.writer import GroupWriter, Job
from . import live_work as work
from .live_work import NoRoom, Spending

BUSY_TIMEOUT_S = 30.0

T = TypeVar("T")


class _Job(Job[Any]):
    def __init__(self, do: Callable[[sqlite3.Connection, float], Any]) -> None:
        super().__init__()
        self.do = do


class LiveStore:
    """Opens or makes the file at `path` (its folder too), which blocks; nothing else does.

    clock: Unix seconds.
    Raises RunBooksError where the file cannot be opened or written, is locked for longer than `busy_timeout_s`, or is
    one of something else.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = Path(path)
        self._clock = clock
        try:
            connection = open_file(self.path, self._prepare, busy_timeout_s=busy_timeout_s, private=True)
        except (OSError, sqlite3.Error) as error:
            raise self._error(error) from error
        self.found = work.read_spending(connection)
        """What had been spent when the file was opened."""
        self._writer: GroupWriter[_Job] = GroupWriter(
            "live-world", lambda jobs: self._commit(connection, jobs), connection.close
        )

    async def take(self, key: bytes, samples: int) -> tuple[int, str | None]:
        """Which of its `samples` answers an equal call gets now, and the answer if it is there."""
        return await self._do(lambda connection, now: work.take(connection, key, samples))

    async def claim(self, key: bytes, number: int, lease_s: float) -> bool | str:
        """The answer where there is one by now, else whether to ask for it: another process may be at it."""

        def do(connection: sqlite3.Connection, now: float) -> bool | str:
            known = work.answer(connection, key, number)
            return work.claim(connection, now, key, number, lease_s) if known is None else known

        return await self._do(do)

    async def release(self, key: bytes, number: int, completion: str | None) -> None:
        """Ends a claim, with an answer to keep or without."""
        await self._do(lambda connection, now: work.release(connection, key, number, completion))

    async def set_aside(self, model: str, usd: Decimal, limit_usd: Decimal, lease_s: float) -> int | NoRoom:
        """Room for a call that may cost `usd`. lease_s: how long others should wait to hear how it ended."""
        return await self._do(
            lambda connection, now: work.set_aside(connection, now, model, usd, limit_usd, lease_s)
        )

    async def settle(self, number: int, usd: Decimal | None, *, failed: bool = False) -> Spending:
        """What a call really cost in the end; None = it was never made. It is written even if the wait is cancelled."""
        return await self._do(lambda connection, now: work.settle(connection, number, usd, failed=failed))

    async def spending(self) -> Spending:
        return await self._do(lambda connection, now: work.read_spending(connection))

    async def aclose(self) -> None:
        """Write what is waiting, then close. A second call does nothing."""
        await self._writer.aclose()

    async def _do(self, do: Callable[[sqlite3.Connection, float], T]) -> T:
        job = _Job(do)
        if not self._writer.submit(job):
            raise RunBooksError(f"the live world's file {self.path} is closed: open another world")
        result: T = await job.outcome()
        return result

    def _commit(self, connection: sqlite3.Connection, jobs: Sequence[_Job]) -> None:
        now = self._clock()
        try:
            connection.execute("BEGIN IMMEDIATE")
            results = [job.do(connection, now) for job in jobs]
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._error(error) from error
            raise
        for job, result in zip(jobs, results, strict=True):
            job.set_result(result)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA synchronous = FULL")
        if not work.create_or_check(connection):
            raise RunBooksError(
                f"{self.path} is a database of something else, or of another version: name another file under world.cache"
            )

    def _error(self, error: Exception) -> RunBooksError:
        return RunBooksError(
            f"the live world's file {self.path} {fault(error, 'name another file under world.cache')}"
        )
