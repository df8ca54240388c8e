"""What is kept of a run that calls live models, and what is done to it, each within a transaction of the caller's.

Amounts are decimal texts: SQLite's numbers would round them. Whether the process behind a row still lives only decides
whether others wait for it. Money that it had set aside counts as spent until it says what was spent, so for good where
it was killed: its calls may have been charged.
"""

from __future__ import annotations

import os
import socket
import sqlite3
from dataclasses import dataclass
from decimal import Decimal

from ..ledger.totals import EXACT

VERSION = 1

_TABLES = (
    "CREATE TABLE live_world (version INTEGER NOT NULL)",
    "CREATE TABLE answers (key BLOB, number INTEGER, completion TEXT NOT NULL, PRIMARY KEY (key, number))",
    "CREATE TABLE turns (key BLOB PRIMARY KEY, taken INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE claims (key BLOB, number INTEGER, host TEXT NOT NULL, pid INTEGER NOT NULL, until REAL NOT NULL,"
    " PRIMARY KEY (key, number)) WITHOUT ROWID",
    "CREATE TABLE set_aside (id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, usd TEXT NOT NULL,"
    " host TEXT NOT NULL, pid INTEGER NOT NULL, until REAL NOT NULL)",
    "CREATE TABLE spent (model TEXT PRIMARY KEY, calls INTEGER NOT NULL, failed INTEGER NOT NULL, usd TEXT NOT NULL)",
)


@dataclass(frozen=True, slots=True)
class Spending:
    """Of all processes of a run. spent_usd: really paid, failed calls that may have been charged at their worst.
    set_aside_usd: the worst of calls under way, and of those whose process was killed. calls: made, failed ones too."""

    spent_usd: Decimal
    set_aside_usd: Decimal
    calls: int
    failed: int

    @property
    def committed_usd(self) -> Decimal:
        return EXACT.add(self.spent_usd, self.set_aside_usd)


@dataclass(frozen=True, slots=True)
class NoRoom:
    """The limit leaves no room for a call. may_come: calls under way may still leave some."""

    spending: Spending
    may_come: bool


def create_or_check(connection: sqlite3.Connection) -> bool:
    """Makes the tables in a new file; False where the file is one of something else, or of another version."""
    connection.execute("BEGIN IMMEDIATE")
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not names:
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute("INSERT INTO live_world VALUES (?)", (VERSION,))
    found = "live_world" in names or not names
    version = connection.execute("SELECT version FROM live_world").fetchone() if found else None
    connection.execute("COMMIT")
    return version == (VERSION,)


def take(connection: sqlite3.Connection, key: bytes, samples: int) -> tuple[int, str | None]:
    """The number of the next answer to an equal call, 0 to samples - 1 in turn, and the answer if it is there."""
    number = 0
    if samples > 1:
        (taken,) = connection.execute(
            "INSERT INTO turns VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET taken = taken + 1 RETURNING taken",
            (key,),
        ).fetchone()
        number = (taken - 1) % samples
    return number, answer(connection, key, number)


def answer(connection: sqlite3.Connection, key: bytes, number: int) -> str | None:
    row = connection.execute(
        "SELECT completion FROM answers WHERE key = ? AND number = ?", (key, number)
    ).fetchone()
    return None if row is None else row[0]


def claim(connection: sqlite3.Connection, now: float, key: bytes, number: int, lease_s: float) -> bool:
    """Whether the caller is to ask for this answer; False while another living process does."""
    row = connection.execute(
        "SELECT host, pid, until FROM claims WHERE key = ? AND number = ?", (key, number)
    ).fetchone()
    if row is not None and _lives(row[0], row[1], row[2], now) and row[:2] != _self():
        return False
    connection.execute(
        "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?)", (key, number, *_self(), now + lease_s)
    )
    return True


def release(connection: sqlite3.Connection, key: bytes, number: int, completion: str | None) -> None:
    """Ends the claim; an answer is kept."""
    if completion is not None:
        connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", (key, number, completion))
    connection.execute("DELETE FROM claims WHERE key = ? AND number = ?", (key, number))


def set_aside(
    connection: sqlite3.Connection, now: float, model: str, usd: Decimal, limit_usd: Decimal, lease_s: float
) -> int | NoRoom:
    """The number under which to `settle`. Calls that cost nothing need no room."""
    spending = read_spending(connection)
    if usd and EXACT.add(spending.committed_usd, usd) > limit_usd:
        rows = connection.execute("SELECT host, pid, until FROM set_aside").fetchall()
        return NoRoom(spending, any(_lives(host, pid, until, now) for host, pid, until in rows))
    row = connection.execute(
        "INSERT INTO set_aside (model, usd, host, pid, until) VALUES (?, ?, ?, ?, ?)",
        (model, format(usd, "f"), *_self(), now + lease_s),
    )
    assert row.lastrowid is not None
    return row.lastrowid


def settle(connection: sqlite3.Connection, number: int, usd: Decimal | None, *, failed: bool) -> Spending:
    """What was set aside is let go and what was spent is booked; None: the call was never made."""
    row = connection.execute("DELETE FROM set_aside WHERE id = ? RETURNING model", (number,)).fetchone()
    if row is not None and usd is not None:
        before = connection.execute("SELECT usd FROM spent WHERE model = ?", row).fetchone()
        total = usd if before is None else EXACT.add(Decimal(before[0]), usd)
        connection.execute(
            "INSERT INTO spent VALUES (?, 1, ?, ?) ON CONFLICT (model) DO UPDATE SET"
            " calls = calls + 1, failed = failed + excluded.failed, usd = excluded.usd",
            (*row, int(failed), format(total, "f")),
        )
    return read_spending(connection)


def read_spending(connection: sqlite3.Connection) -> Spending:
    spent, aside, calls, failed = Decimal(0), Decimal(0), 0, 0
    for usd, made, went_wrong in connection.execute("SELECT usd, calls, failed FROM spent"):
        spent, calls, failed = EXACT.add(spent, Decimal(usd)), calls + made, failed + went_wrong
    for (usd,) in connection.execute("SELECT usd FROM set_aside"):
        aside = EXACT.add(aside, Decimal(usd))
    return Spending(spent, aside, calls, failed)


def _self() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def _lives(host: str, pid: int, until: float, now: float) -> bool:
    """Whether the process may still say how its call ended; a process id that was given anew only means a longer wait."""
    if until <= now:
        return False
    if host != socket.gethostname() or os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
