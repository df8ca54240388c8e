"""Books in PostgreSQL: durable, append-only, exact; gateways on many hosts may write to them.

One thread owns the writing connection. Bookings that arrive while it commits go into the next transaction together,
whatever their number by three statements sent at once. When the connection is lost it is made anew; what was under way
is looked for first, so nothing is booked twice.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ..errors import ConfigurationError, LedgerError
from ..settings_tables.addresses import shown
from . import postgres_schema as sql
from .ledger import CallEntry, EpisodeEntry, Spent
from .postgres_work import Rows, find, write
from .rows import call_row, episode_row, read_call, read_episode, totals_of_rows
from .spend import Spend, SpendBy, in_order
from .totals import DEFAULT_TOP_ROUTES, Totals
from .writer import GroupWriter, Job

PATIENCE_S = 5.0
"""How long bookings wait for a server that has just gone; while it stays away, later ones fail at once."""

TIMEOUT_S = 30.0
"""How long a booking waits for a server that does not answer, all in all."""

_RETRY_S = 0.1
_DEFAULTS: Mapping[str, Any] = {
    "application_name": "xrouter",
    "connect_timeout": 5,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
_DURABLE = """SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') = 'off'"""

Connection = psycopg.Connection[tuple[Any, ...]]
T = TypeVar("T")


class _Booking(Job[Sequence[Spent]]):
    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.rows = rows


class PostgresLedger:
    """Connects and makes the tables if need be. Opening and reading block; `book` does not.

    url: postgresql://user@host/database, or anything else that libpq reads; patience_s, timeout_s: seconds.
    Raises ConfigurationError for a URL that cannot be read, LedgerError when the server cannot be used.
    """

    def __init__(self, url: str, *, patience_s: float = PATIENCE_S, timeout_s: float = TIMEOUT_S) -> None:
        self.address = shown(url)
        self._conninfo = connection_info(url)
        self._patience_s = patience_s
        self._timeout_s = timeout_s
        self._away_since: float | None = None
        self._reader: Connection | None = None
        self._reading = threading.Lock()
        self._connection: Connection | None = None
        try:
            self._connection = self._connect()
            sql.create_or_check(self._connection, self.address)
        except psycopg.Error as error:
            self._drop()
            raise self._error(error) from error
        except LedgerError:
            self._drop()
            raise
        self._writer: GroupWriter[_Booking] = GroupWriter("ledger", self._commit, self._drop)

    async def book(
        self, episode: EpisodeEntry, calls: Sequence[CallEntry], scopes: Sequence[str] = ()
    ) -> Sequence[Spent]:
        """Commit an episode and its calls. Once begun, a booking is written even if the wait is cancelled."""
        rows = Rows(episode_row(episode), [call_row(call) for call in calls], scopes, episode.cost_usd)
        booking = _Booking(rows)
        if not self._writer.submit(booking):
            raise LedgerError(f"the ledger {self.address} is closed: open another")
        try:
            async with asyncio.timeout(self._timeout_s):
                return await booking.outcome()
        except TimeoutError:
            raise LedgerError(
                f"ledger {self.address} did not answer within {self._timeout_s:g} s: "
                f"episode {episode.episode_id!r} may or may not be booked; check the server"
            ) from None

    async def spent(self, scopes: Sequence[str]) -> Sequence[Spent]:
        return await asyncio.to_thread(self._read, lambda reader: find(reader, scopes)) if scopes else ()

    def totals(
        self, since: float | None = None, until: float | None = None, *, top_routes: int = DEFAULT_TOP_ROUTES
    ) -> Totals:
        """What was booked at times in [since, until), Unix seconds. Blocks: on an event loop use a thread."""
        span = (float("-inf") if since is None else since, float("inf") if until is None else until)

        def read(reader: Connection) -> Totals:
            with reader.transaction():
                reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                (books,) = reader.execute(sql.SUM_BOOKS, span).fetchall()
                routes = reader.execute(sql.SUM_ROUTES.encode(), (*span, top_routes)).fetchall()
                models = reader.execute(sql.SUM_MODELS, span).fetchall()
            return totals_of_rows(books, routes, models, top_routes)

        return self._read(read)

    def spend(self, by: SpendBy, since: float | None = None, until: float | None = None) -> list[Spend]:
        """What was spent at times in [since, until), Unix seconds. Blocks: on an event loop use a thread."""
        span = (float("-inf") if since is None else since, float("inf") if until is None else until)
        rows = self._read(lambda reader: reader.execute(sql.SUM_SPEND[by].encode(), span).fetchall())
        return in_order(Spend(*row) for row in rows)

    def entries(self, episode_id: str) -> tuple[EpisodeEntry, list[CallEntry]] | None:
        """The rows of one episode, None if it was never booked. Blocks."""

        def read(reader: Connection) -> tuple[EpisodeEntry, list[CallEntry]] | None:
            row = reader.execute(sql.SELECT_EPISODE.encode(), (episode_id,)).fetchone()
            calls = reader.execute(sql.SELECT_CALLS.encode(), (episode_id,)).fetchall()
            return None if row is None else (read_episode(row), [read_call(call) for call in calls])

        return self._read(read)

    async def aclose(self) -> None:
        """Write what is waiting, then close. A second call does nothing."""
        await self._writer.aclose(self._timeout_s)
        with self._reading:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def _connect(self) -> Connection:
        connection = psycopg.connect(self._conninfo, autocommit=True)
        connection.execute(_DURABLE)
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read(self, read: Callable[[Connection], T]) -> T:
        """Reading has a connection of its own, which is made anew where the server has closed it meanwhile."""
        with self._reading:
            known = self._reader is not None
            try:
                try:
                    self._reader = self._reader or self._connect()
                    return read(self._reader)
                except psycopg.OperationalError:
                    if not known:
                        raise
                    self._reader = self._connect()
                    return read(self._reader)
            except psycopg.Error as error:
                if self._reader is not None:
                    self._reader.close()
                self._reader = None
                raise self._error(error) from error

    def _commit(self, bookings: Sequence[_Booking]) -> None:
        """The writer thread: commit all at once, keep the promises. After a lost connection it tries again."""
        unsure = False
        while bookings:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                if unsure:
                    bookings = self._still_open(self._connection, bookings)
                failed = write(self._connection, [booking.rows for booking in bookings])
            except psycopg.Error as error:
                lost = self._connection is None or self._connection.broken
                self._drop()
                if not lost or not self._patient():
                    raise self._error(error) from error
                unsure = True
                time.sleep(_RETRY_S)
                continue
            self._away_since = None
            for booking, error_of_it in zip(bookings, failed, strict=True):
                if error_of_it is None:
                    booking.set_result(booking.rows.spent)
                else:
                    booking.set_exception(error_of_it)
            return

    def _still_open(self, connection: Connection, bookings: Sequence[_Booking]) -> list[_Booking]:
        """Keep the promises of what a lost connection had committed after all; the others."""
        ids = [booking.rows.episode_id for booking in bookings]
        booked = {episode_id for (episode_id,) in connection.execute(sql.SELECT_BOOKED, (ids,))}
        for booking in bookings:
            if booking.rows.episode_id in booked:
                booking.set_result(find(connection, booking.rows.scopes))
        return [booking for booking in bookings if booking.rows.episode_id not in booked]

    def _patient(self) -> bool:
        """Whether the server has been away for a short time only."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        return now - self._away_since < self._patience_s

    def _error(self, error: psycopg.Error) -> LedgerError:
        return LedgerError(
            f"ledger {self.address} cannot be used: {' '.join(str(error).split())}; "
            "check that the server runs, and the rights of the user"
        )


def connection_info(url: str, setting: str = "ledger") -> str:
    """What psycopg connects with. Raises ConfigurationError, naming the setting, for a URL that cannot be read."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        # libpq would quote the part that it cannot read, which may be of the password.
        raise ConfigurationError(
            f"{setting} = {shown(url)!r} is no address such as postgresql://user@host/database: "
            "percent-encode what is special in it",
            param=setting,
        ) from None
    return make_conninfo("", **{**_DEFAULTS, **given})
