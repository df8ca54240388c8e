"""The SQLite tables of the books. Their columns are those of `rows`."""

from __future__ import annotations

import sqlite3

from ..errors import LedgerError
from .migrations import pending

SCHEMA_VERSION = 4

_SPENT = "CREATE TABLE spent (scope TEXT PRIMARY KEY, cost_usd TEXT NOT NULL, version INTEGER NOT NULL)"

MIGRATIONS = {
    1: ("ALTER TABLE episodes ADD COLUMN target_quality REAL",),
    2: ("ALTER TABLE episodes ADD COLUMN outside_training INTEGER NOT NULL DEFAULT 0",),
    3: (
        *(
            f"ALTER TABLE episodes ADD COLUMN {column}"
            for column in (
                "key_id TEXT",
                "user TEXT",
                "team TEXT",
                "tags TEXT NOT NULL DEFAULT '[]'",
                "session TEXT",
                "trace_id TEXT",
                "cache TEXT",
                "saved_usd TEXT NOT NULL DEFAULT '0'",
            )
        ),
        _SPENT,
    ),
}
"""From each older version to the next. A migrated file has the same columns in the same order as a new one."""

TABLES = (
    "CREATE TABLE schema_version (version INTEGER NOT NULL)",
    """CREATE TABLE episodes (
        episode_id TEXT PRIMARY KEY, at REAL NOT NULL, policy TEXT NOT NULL, policy_version TEXT NOT NULL,
        route TEXT NOT NULL, calls INTEGER NOT NULL, answer_model TEXT, stop_reason TEXT NOT NULL,
        cost_usd TEXT NOT NULL, reference_model TEXT NOT NULL, reference_cost_usd TEXT NOT NULL,
        confidence REAL, latency_s REAL NOT NULL, cost_weight REAL NOT NULL, error TEXT, degraded TEXT,
        simulated INTEGER NOT NULL, target_quality REAL, outside_training INTEGER NOT NULL DEFAULT 0,
        key_id TEXT, user TEXT, team TEXT, tags TEXT NOT NULL DEFAULT '[]', session TEXT, trace_id TEXT, cache TEXT,
        saved_usd TEXT NOT NULL DEFAULT '0'
    )""",
    """CREATE TABLE calls (
        episode_id TEXT NOT NULL REFERENCES episodes (episode_id), call_id TEXT NOT NULL, at REAL NOT NULL,
        model TEXT NOT NULL, provider TEXT NOT NULL, kind TEXT NOT NULL, turn INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
        reasoning_tokens INTEGER NOT NULL, estimated INTEGER NOT NULL, cost_usd TEXT NOT NULL,
        latency_s REAL NOT NULL, error TEXT, simulated INTEGER NOT NULL,
        PRIMARY KEY (episode_id, call_id)
    )""",
    _SPENT,
    "CREATE INDEX episodes_at ON episodes (at)",
    "CREATE INDEX calls_at ON calls (at)",
    *(
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
        for table in ("episodes", "calls")
        for verb in ("UPDATE", "DELETE")
    ),
)

INSERT_EPISODE = "INSERT INTO episodes VALUES (" + ", ".join("?" * 27) + ")"
INSERT_CALL = "INSERT INTO calls VALUES (" + ", ".join("?" * 16) + ")"


def create_or_check(connection: sqlite3.Connection, path: str) -> None:
    """Make the tables in an empty file, bring an older ledger up to date.

    Raises LedgerError for a file of a newer version or of something else.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        tables = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        if not tables:
            for statement in TABLES:
                connection.execute(statement)
            connection.execute("INSERT INTO schema_version VALUES (?)", (SCHEMA_VERSION,))
        elif "schema_version" not in tables:
            raise LedgerError(f"{path} is a database but no ledger: name another file")
        else:
            version = connection.execute("SELECT max(version) FROM schema_version").fetchone()[0]
            for reached, statements in pending(path, version, SCHEMA_VERSION, MIGRATIONS):
                for statement in statements:
                    connection.execute(statement)
                connection.execute("INSERT INTO schema_version VALUES (?)", (reached,))
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
