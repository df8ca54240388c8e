"""What is done to the tables of state, inside a transaction of the caller. `now` is Unix seconds."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ..ledger.ledger import Spent
from .limits import SCOPE_TTL_S, after_takes, full_in, picodollars, refilled
from .state import Hold, Take

SWEPT_AT_ONCE = 1000
_APPLICATION = 0x78527374
_VERSION = 1
_TABLES = {
    "kept": "(key TEXT PRIMARY KEY, value BLOB NOT NULL, lapses_at REAL NOT NULL) WITHOUT ROWID",
    "buckets": "(bucket TEXT PRIMARY KEY, level REAL NOT NULL, at REAL NOT NULL, full_at REAL NOT NULL) WITHOUT ROWID",
    "scopes": """(scope TEXT PRIMARY KEY, version INTEGER NOT NULL, spent TEXT NOT NULL, reserved TEXT NOT NULL,
        forget_at REAL NOT NULL) WITHOUT ROWID""",
    "holds": """(reservation TEXT NOT NULL, scope TEXT NOT NULL, amount TEXT NOT NULL, lapses_at REAL NOT NULL,
        PRIMARY KEY (reservation, scope)) WITHOUT ROWID""",
}
_INDEXES = (
    "CREATE INDEX kept_lapses_at ON kept (lapses_at)",
    "CREATE INDEX buckets_full_at ON buckets (full_at)",
    "CREATE INDEX holds_lapses_at ON holds (lapses_at)",
)


def create(connection: sqlite3.Connection) -> bool:
    """Make the tables, anew where an older program left its own; False where the file holds something else."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        names = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        ours = application == _APPLICATION
        if (ours or not names) and (not ours or version != _VERSION):
            for name in names:
                connection.execute(f'DROP TABLE "{name}"')
            for name, columns in _TABLES.items():
                connection.execute(f"CREATE TABLE {name} {columns}")
            for statement in _INDEXES:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return ours or not names


def lapse(connection: sqlite3.Connection, now: float) -> None:
    """Release the reservations that nobody settled in time."""
    lapsed = connection.execute("SELECT DISTINCT reservation FROM holds WHERE lapses_at <= ?", (now,))
    for (reservation,) in lapsed.fetchall():
        _release(connection, reservation)


def sweep(connection: sqlite3.Connection, now: float, max_bytes: int) -> None:
    """Forget some of what has lapsed, and of the values those that lapse soonest while the file holds too much."""
    for table, key, at in (("kept", "key", "lapses_at"), ("buckets", "bucket", "full_at")):
        connection.execute(
            f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE {at} <= ? LIMIT ?)",
            (now, SWEPT_AT_ONCE),
        )
    connection.execute("DELETE FROM scopes WHERE forget_at <= ? AND reserved = '0'", (now,))
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    if (pages - free) * size > max_bytes:
        connection.execute(
            "DELETE FROM kept WHERE key IN (SELECT key FROM kept ORDER BY lapses_at"
            " LIMIT 1 + (SELECT count(*) FROM kept) / 10)"
        )


def get(connection: sqlite3.Connection, now: float, key: str) -> bytes | None:
    row = connection.execute("SELECT value FROM kept WHERE key = ? AND lapses_at > ?", (key, now)).fetchone()
    return None if row is None else bytes(row[0])


def put(connection: sqlite3.Connection, now: float, key: str, value: bytes, ttl_s: float) -> None:
    connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", (key, value, now + ttl_s))


def delete(connection: sqlite3.Connection, key: str) -> None:
    connection.execute("DELETE FROM kept WHERE key = ?", (key,))


def take(connection: sqlite3.Connection, now: float, takes: Sequence[Take]) -> tuple[int, float] | None:
    left = after_takes(_levels(connection, now, takes), takes)
    if isinstance(left, tuple):
        return left
    _set_levels(connection, now, takes, left)
    return None


def give_back(connection: sqlite3.Connection, now: float, takes: Sequence[Take]) -> None:
    levels = _levels(connection, now, takes)
    for one in takes:
        levels[one.bucket] = min(one.capacity, levels[one.bucket] + one.amount)
    _set_levels(connection, now, takes, levels)


def reserve(
    connection: sqlite3.Connection, now: float, reservation: str, holds: Sequence[Hold], ttl_s: float
) -> int | None:
    own = _amounts(connection, reservation)
    amounts: dict[str, int] = {}
    for index, hold in enumerate(holds):
        scope = hold.spent.scope
        spent, reserved = _note(connection, now, hold.spent)
        amounts[scope] = amounts.get(scope, 0) + hold.picodollars
        if spent + reserved - own.get(scope, 0) + amounts[scope] > hold.limit_picodollars:
            return index
    _release(connection, reservation)
    for scope, amount in amounts.items():
        connection.execute(
            "INSERT INTO holds VALUES (?, ?, ?, ?)", (reservation, scope, str(amount), now + ttl_s)
        )
        _add_reserved(connection, scope, amount)
    return None


def settle(connection: sqlite3.Connection, now: float, reservation: str, spent: Sequence[Spent]) -> None:
    _release(connection, reservation)
    for total in spent:
        _note(connection, now, total)


def _levels(connection: sqlite3.Connection, now: float, takes: Sequence[Take]) -> dict[str, float]:
    levels = {}
    for one in takes:
        row = connection.execute("SELECT level, at FROM buckets WHERE bucket = ?", (one.bucket,)).fetchone()
        levels[one.bucket] = one.capacity if row is None else refilled(row[0], now - row[1], one)
    return levels


def _set_levels(
    connection: sqlite3.Connection, now: float, takes: Sequence[Take], levels: dict[str, float]
) -> None:
    for one in takes:
        level = levels[one.bucket]
        connection.execute(
            "INSERT OR REPLACE INTO buckets VALUES (?, ?, ?, ?)",
            (one.bucket, level, now, now + full_in(level, one)),
        )


def _note(connection: sqlite3.Connection, now: float, total: Spent) -> tuple[int, int]:
    """(spent, reserved) of the scope in picodollars, once it knows of this total."""
    row = connection.execute(
        "SELECT version, spent, reserved FROM scopes WHERE scope = ?", (total.scope,)
    ).fetchone()
    version, spent, reserved = (-1, 0, 0) if row is None else (row[0], int(row[1]), int(row[2]))
    if total.version > version:
        version, spent = total.version, picodollars(total.cost_usd)
    connection.execute(
        "INSERT OR REPLACE INTO scopes VALUES (?, ?, ?, ?, ?)",
        (total.scope, version, str(spent), str(reserved), now + SCOPE_TTL_S),
    )
    return spent, reserved


def _amounts(connection: sqlite3.Connection, reservation: str) -> dict[str, int]:
    rows = connection.execute("SELECT scope, amount FROM holds WHERE reservation = ?", (reservation,))
    return {scope: int(amount) for scope, amount in rows}


def _release(connection: sqlite3.Connection, reservation: str) -> None:
    for scope, amount in _amounts(connection, reservation).items():
        _add_reserved(connection, scope, -amount)
    connection.execute("DELETE FROM holds WHERE reservation = ?", (reservation,))


def _add_reserved(connection: sqlite3.Connection, scope: str, amount: int) -> None:
    (reserved,) = connection.execute("SELECT reserved FROM scopes WHERE scope = ?", (scope,)).fetchone()
    connection.execute("UPDATE scopes SET reserved = ? WHERE scope = ?", (str(int(reserved) + amount), scope))
