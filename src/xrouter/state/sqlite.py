"""State in one SQLite file, for the worker processes of one host. It may be lost: nothing waits for the disk.

One thread owns the connection and does whatever waits in one transaction. Amounts are kept as decimal texts: SQLite's
integers end at nine million dollars.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..errors import StateError
from ..ledger.faults import fault
from ..ledger.ledger import Spent
from ..ledger.sqlite_file import open_file
from ..ledger.writer import GroupWriter, Job
from . import sqlite_work as work
from .state import Hold, Take

BUSY_TIMEOUT_S = 5.0
MAX_BYTES = 256 * 2**20

T = TypeVar("T")


class _Job(Job[Any]):
    def __init__(self, do: Callable[[sqlite3.Connection, float], Any]) -> None:
        super().__init__()
        self.do = do


class SqliteState:
    """Opens or makes the file at `path` (its folder too), which blocks; nothing else does.

    clock: Unix seconds. max_bytes: beyond it the values that lapse soonest go.
    Raises StateError where the file cannot be opened or written, or is locked for longer than `busy_timeout_s`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        clock: Callable[[], float] = time.time,
        max_bytes: int = MAX_BYTES,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        self.path = Path(path)
        self._clock = clock
        self._max_bytes = max_bytes
        self._busy_timeout_s = busy_timeout_s
        self._swept_at = 0.0
        connection = self._open()
        self._writer: GroupWriter[_Job] = GroupWriter(
            "state", lambda jobs: self._commit(connection, jobs), connection.close
        )

    async def get(self, key: str) -> bytes | None:
        return await self._do(lambda connection, now: work.get(connection, now, key))

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        await self._do(lambda connection, now: work.put(connection, now, key, value, ttl_s))

    async def delete(self, key: str) -> None:
        await self._do(lambda connection, now: work.delete(connection, key))

    async def take(self, takes: Sequence[Take]) -> tuple[int, float] | None:
        return await self._do(lambda connection, now: work.take(connection, now, takes))

    async def give_back(self, takes: Sequence[Take]) -> None:
        await self._do(lambda connection, now: work.give_back(connection, now, takes))

    async def reserve(self, reservation: str, holds: Sequence[Hold], *, ttl_s: float) -> int | None:
        return await self._do(
            lambda connection, now: work.reserve(connection, now, reservation, holds, ttl_s)
        )

    async def settle(self, reservation: str, spent: Sequence[Spent]) -> None:
        await self._do(lambda connection, now: work.settle(connection, now, reservation, spent))

    async def aclose(self) -> None:
        await self._writer.aclose()

    async def _do(self, do: Callable[[sqlite3.Connection, float], T]) -> T:
        """Once begun, it is done even if the wait is cancelled."""
        job = _Job(do)
        if not self._writer.submit(job):
            raise StateError(f"the state {self.path} is closed: open another")
        result: T = await job.outcome()
        return result

    def _commit(self, connection: sqlite3.Connection, jobs: Sequence[_Job]) -> None:
        now = self._clock()
        try:
            connection.execute("BEGIN IMMEDIATE")
            work.lapse(connection, now)
            if abs(now - self._swept_at) >= 1.0:
                self._swept_at = now
                work.sweep(connection, now, self._max_bytes)
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

    def _open(self) -> sqlite3.Connection:
        try:
            return open_file(self.path, self._prepare, busy_timeout_s=self._busy_timeout_s)
        except (OSError, sqlite3.Error) as error:
            raise self._error(error) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        if not work.create(connection):
            raise StateError(
                f"state {self.path} is a database of something else: name another file under `state`"
            )

    def _error(self, error: Exception) -> StateError:
        return StateError(f"state {self.path} {fault(error, 'delete it, nothing in it needs keeping')}")
