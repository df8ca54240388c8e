"""Books in one SQLite file: durable, append-only, exact; many processes may write to it.

One thread owns the writing connection. Bookings that arrive while it commits go into the next commit
together, so many requests share one flush to disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path

from ..errors import LedgerError
from .faults import ledger_error
from .ledger import CallEntry, EpisodeEntry, Spent
from .rows import call_row, dollars, episode_row, read_call, read_episode, totals_of_rows
from .schema import INSERT_CALL, INSERT_EPISODE, create_or_check
from .spend import Spend, SpendBy, read_spend
from .sqlite_file import open_file
from .totals import DEFAULT_TOP_ROUTES, EXACT, Totals
from .writer import GroupWriter, Job

BUSY_TIMEOUT_S = 10.0
_FAULTS_OF_A_BOOKING = (
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    TypeError,
    ValueError,
)


class _Booking(Job[Sequence[Spent]]):
    """The rows of one episode and the promise that they are on disk, with the new totals of its scopes."""

    def __init__(self, episode: EpisodeEntry, calls: Sequence[CallEntry], scopes: Sequence[str]) -> None:
        super().__init__()
        self.cost_usd = episode.cost_usd
        self.scopes = scopes
        self.spent: list[Spent] = []
        self.episode = episode_row(episode)
        self.calls = [call_row(call) for call in calls]


class SqliteLedger:
    """Opens or makes the file at `path` (its folder too). Opening and reading block; `book` does not.

    busy_timeout_s: how long a write waits for other processes.
    Raises LedgerError when the file cannot be opened or written, is locked, or is of another version.
    """

    def __init__(self, path: str | Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.path = Path(path)
        self._busy_timeout_s = busy_timeout_s
        connection = self._open()
        self._writer: GroupWriter[_Booking] = GroupWriter(
            "ledger", lambda bookings: self._commit(connection, bookings), connection.close
        )

    async def book(
        self, episode: EpisodeEntry, calls: Sequence[CallEntry], scopes: Sequence[str] = ()
    ) -> Sequence[Spent]:
        """Commit an episode and its calls. Once begun, a booking is written even if the wait is cancelled."""
        booking = _Booking(episode, calls, scopes)
        if not self._writer.submit(booking):
            raise LedgerError(f"the ledger {self.path} is closed: open another")
        return await booking.outcome()

    async def spent(self, scopes: Sequence[str]) -> Sequence[Spent]:
        return await asyncio.to_thread(self._read_spent, scopes) if scopes else ()

    def _read_spent(self, scopes: Sequence[str]) -> Sequence[Spent]:
        try:
            with closing(self._reader()) as connection:
                return [_spent(connection, scope) for scope in scopes]
        except sqlite3.Error as error:
            raise ledger_error(self.path, error) from error

    def totals(
        self, since: float | None = None, until: float | None = None, *, top_routes: int = DEFAULT_TOP_ROUTES
    ) -> Totals:
        """What was booked at times in [since, until), Unix seconds. Blocks: on an event loop use a thread."""
        try:
            with closing(self._reader()) as connection:
                return _totals(connection, since, until, top_routes)
        except sqlite3.Error as error:
            raise ledger_error(self.path, error) from error

    def spend(self, by: SpendBy, since: float | None = None, until: float | None = None) -> list[Spend]:
        """What was spent at times in [since, until), Unix seconds. Blocks: on an event loop use a thread."""
        span = (float("-inf") if since is None else since, float("inf") if until is None else until)
        try:
            with closing(self._reader()) as connection:
                return read_spend(connection, by, span)
        except sqlite3.Error as error:
            raise ledger_error(self.path, error) from error

    def entries(self, episode_id: str) -> tuple[EpisodeEntry, list[CallEntry]] | None:
        """The rows of one episode, None if it was never booked. Blocks."""
        try:
            with closing(self._reader()) as connection:
                row = connection.execute(
                    "SELECT * FROM episodes WHERE episode_id = ?", (episode_id,)
                ).fetchone()
                calls = connection.execute(
                    "SELECT * FROM calls WHERE episode_id = ? ORDER BY rowid", (episode_id,)
                ).fetchall()
        except sqlite3.Error as error:
            raise ledger_error(self.path, error) from error
        return None if row is None else (read_episode(row), [read_call(call) for call in calls])

    async def aclose(self) -> None:
        """Write what is waiting, then close. A second call does nothing."""
        await self._writer.aclose()

    def _open(self) -> sqlite3.Connection:
        """The writing connection."""
        try:
            return open_file(self.path, self._prepare, busy_timeout_s=self._busy_timeout_s)
        except (OSError, sqlite3.Error) as error:
            raise ledger_error(self.path, error) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        create_or_check(connection, str(self.path))

    def _reader(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=self._busy_timeout_s, isolation_level=None)
        connection.execute("PRAGMA query_only = ON")
        connection.create_aggregate("exact_sum", 1, _ExactSum)  # type: ignore[arg-type]
        return connection

    def _commit(self, connection: sqlite3.Connection, bookings: Sequence[_Booking]) -> None:
        failed: dict[_Booking, LedgerError] = {}
        try:
            connection.execute("BEGIN IMMEDIATE")
            if not self._insert_all(connection, bookings):
                failed = self._insert_each(connection, bookings)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failed = dict.fromkeys(bookings, ledger_error(self.path, error))
        for booking in bookings:
            if booking in failed:
                booking.set_exception(failed[booking])
            else:
                booking.set_result(booking.spent)

    def _insert_all(self, connection: sqlite3.Connection, bookings: Sequence[_Booking]) -> bool:
        """Insert all rows, statement by statement: half as many as one booking after the other takes, each of which lets
        go of the interpreter's lock and waits for it again. Where one of them is at fault the transaction begins anew."""
        try:
            connection.executemany(INSERT_EPISODE, [booking.episode for booking in bookings])
            connection.executemany(INSERT_CALL, [call for booking in bookings for call in booking.calls])
            for booking in bookings:
                booking.spent = [_charge(connection, scope, booking.cost_usd) for scope in booking.scopes]
        except _FAULTS_OF_A_BOOKING:
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            return False
        return True

    def _insert_each(
        self, connection: sqlite3.Connection, bookings: Sequence[_Booking]
    ) -> dict[_Booking, LedgerError]:
        """Insert what can be; the rest, with what is wrong with it."""
        found = {booking: self._insert(connection, booking) for booking in bookings}
        return {booking: error for booking, error in found.items() if error is not None}

    def _insert(self, connection: sqlite3.Connection, booking: _Booking) -> LedgerError | None:
        """Insert one booking's rows, all or none; a booking at fault does not harm the others of its commit."""
        connection.execute("SAVEPOINT booking")
        try:
            connection.execute(INSERT_EPISODE, booking.episode)
            connection.executemany(INSERT_CALL, booking.calls)
            booking.spent = [_charge(connection, scope, booking.cost_usd) for scope in booking.scopes]
        except _FAULTS_OF_A_BOOKING as error:
            connection.execute("ROLLBACK TO booking")
            connection.execute("RELEASE booking")
            return LedgerError(f"episode {booking.episode[0]!r} cannot be booked: {error}")
        connection.execute("RELEASE booking")
        return None


class _ExactSum:
    """SQL aggregate: the sum of decimal texts as decimal text."""

    def __init__(self) -> None:
        self.total = Decimal(0)

    def step(self, amount: str) -> None:
        self.total = EXACT.add(self.total, Decimal(amount))

    def finalize(self) -> str:
        return format(self.total, "f")


def _spent(connection: sqlite3.Connection, scope: str) -> Spent:
    row = connection.execute("SELECT cost_usd, version FROM spent WHERE scope = ?", (scope,)).fetchone()
    return Spent(scope) if row is None else Spent(scope, Decimal(row[0]), row[1])


def _charge(connection: sqlite3.Connection, scope: str, cost_usd: Decimal) -> Spent:
    before = _spent(connection, scope)
    after = Spent(scope, EXACT.add(before.cost_usd, cost_usd), before.version + 1)
    connection.execute(
        "INSERT INTO spent VALUES (?, ?, ?) ON CONFLICT (scope) DO UPDATE SET cost_usd = excluded.cost_usd,"
        " version = excluded.version",
        (scope, dollars(after.cost_usd), after.version),
    )
    return after


def _totals(
    connection: sqlite3.Connection, since: float | None, until: float | None, top_routes: int
) -> Totals:
    when = "at >= ? AND at < ?"
    span = (float("-inf") if since is None else since, float("inf") if until is None else until)
    connection.execute("BEGIN")
    books = connection.execute(
        "SELECT count(*), count(error), exact_sum(cost_usd), exact_sum(reference_cost_usd), "
        f"total(simulated) FROM episodes WHERE {when}",
        span,
    ).fetchone()
    routes = connection.execute(
        f"SELECT route, count(*) AS n, exact_sum(cost_usd) FROM episodes WHERE {when} "
        "GROUP BY route ORDER BY n DESC, route LIMIT ?",
        (*span, top_routes),
    ).fetchall()
    models = connection.execute(
        "SELECT model, count(*), count(error), exact_sum(cost_usd), sum(prompt_tokens), sum(completion_tokens), "
        f"sum(cached_tokens), sum(reasoning_tokens), max(estimated) FROM calls WHERE {when} GROUP BY model",
        span,
    ).fetchall()
    connection.execute("COMMIT")
    return totals_of_rows(books, routes, models, top_routes)
