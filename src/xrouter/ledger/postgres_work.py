"""What the writer thread does on its connection to PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import psycopg

from ..errors import LedgerError
from . import postgres_schema as sql
from .ledger import Spent
from .rows import dollars
from .totals import EXACT

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(slots=True)
class Rows:
    """One booking, and once it is written the new totals of its scopes."""

    episode: tuple[object, ...]
    calls: Sequence[tuple[object, ...]]
    scopes: Sequence[str]
    cost_usd: Decimal
    spent: Sequence[Spent] = field(default=())

    @property
    def episode_id(self) -> str:
        return str(self.episode[0])


def write(connection: Connection, bookings: Sequence[Rows]) -> list[LedgerError | None]:
    """Commit all in one transaction; what is wrong with each that had to be left out.

    Raises psycopg.Error where nothing could be written.
    """
    try:
        _write_all(connection, bookings)
    except (psycopg.IntegrityError, psycopg.DataError):
        if connection.broken:
            raise
        connection.execute("ROLLBACK")
        return _write_each(connection, bookings)
    return [None] * len(bookings)


def find(connection: Connection, scopes: Sequence[str]) -> list[Spent]:
    """What has been booked on each scope."""
    rows = connection.execute(sql.SELECT_SPENT, (list(scopes),)).fetchall()
    known = {scope: Spent(scope, cost_usd, version) for scope, cost_usd, version in rows}
    return [known.get(scope, Spent(scope)) for scope in scopes]


def _write_all(connection: Connection, bookings: Sequence[Rows]) -> None:
    """One round trip: nothing waits for an answer before the commit is sent."""
    with connection.pipeline():
        connection.execute("BEGIN")
        _insert(connection, bookings)
        charged = _charge(connection, bookings)
        connection.execute("COMMIT")
    _share_out(bookings, charged)


def _write_each(connection: Connection, bookings: Sequence[Rows]) -> list[LedgerError | None]:
    """Find out which bookings cannot be written, and commit the others."""
    failed: list[LedgerError | None] = []
    with connection.transaction():
        for booking in bookings:
            try:
                with connection.transaction():
                    _insert(connection, [booking])
            except (psycopg.IntegrityError, psycopg.DataError) as error:
                why = " ".join(str(error).split())
                failed.append(LedgerError(f"episode {booking.episode_id!r} cannot be booked: {why}"))
            else:
                failed.append(None)
        good = [booking for booking, error in zip(bookings, failed, strict=True) if error is None]
        charged = _charge(connection, good)
    _share_out(good, charged)
    return failed


def _insert(connection: Connection, bookings: Sequence[Rows]) -> None:
    connection.execute(sql.INSERT_EPISODES.encode(), _arrays(booking.episode for booking in bookings))
    calls = [row for booking in bookings for row in booking.calls]
    if calls:
        connection.execute(sql.INSERT_CALLS.encode(), _arrays(calls))


def _charge(connection: Connection, bookings: Sequence[Rows]) -> psycopg.Cursor[tuple[Any, ...]] | None:
    """Add the bookings to their scopes. Last before the commit, since others wait for these rows until then."""
    amounts: dict[str, Decimal] = {}
    counts: Counter[str] = Counter()
    for booking in bookings:
        for scope in booking.scopes:
            amounts[scope] = EXACT.add(amounts.get(scope, Decimal(0)), booking.cost_usd)
            counts[scope] += 1
    if not amounts:
        return None
    scopes = sorted(amounts)
    return connection.execute(
        sql.CHARGE,
        (scopes, [dollars(amounts[scope]) for scope in scopes], [counts[scope] for scope in scopes]),
    )


def _share_out(bookings: Sequence[Rows], charged: psycopg.Cursor[tuple[Any, ...]] | None) -> None:
    """What each booking's scopes had come to when it was booked: the totals less what was booked after it."""
    totals = {} if charged is None else {row[0]: Spent(*row) for row in charged.fetchall()}
    for booking in reversed(bookings):
        spent = []
        for scope in reversed(booking.scopes):
            total = totals[scope]
            spent.append(total)
            totals[scope] = Spent(scope, EXACT.subtract(total.cost_usd, booking.cost_usd), total.version - 1)
        booking.spent = spent[::-1]


def _arrays(rows: Iterable[Sequence[object]]) -> list[list[object]]:
    """One array a column."""
    return [list(column) for column in zip(*rows, strict=True)]
