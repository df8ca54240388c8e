"""The SQLite tables of the books, and their rows."""

from __future__ import annotations

import json
import sqlite3
from decimal import Decimal
from typing import Any

from ..errors import LedgerError
from ..messages import Usage
from .ledger import CallEntry, EpisodeEntry

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
            while version in MIGRATIONS:
                for statement in MIGRATIONS[version]:
                    connection.execute(statement)
                version += 1
                connection.execute("INSERT INTO schema_version VALUES (?)", (version,))
            if version != SCHEMA_VERSION:
                raise LedgerError(
                    f"{path} is a ledger of schema version {version}, this program writes version "
                    f"{SCHEMA_VERSION}: name another file or use the program that wrote it"
                )
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def dollars(amount: Decimal) -> str:
    """Exact text of an amount, never in exponent form."""
    if not amount.is_finite():
        raise LedgerError(f"cost {amount} is not an amount of US dollars")
    return format(amount, "f")


def episode_row(entry: EpisodeEntry) -> tuple[object, ...]:
    return (
        entry.episode_id,
        entry.at,
        entry.policy,
        entry.policy_version,
        entry.route,
        entry.calls,
        entry.answer_model,
        entry.stop_reason,
        dollars(entry.cost_usd),
        entry.reference_model,
        dollars(entry.reference_cost_usd),
        entry.confidence,
        entry.latency_s,
        entry.cost_weight,
        entry.error,
        entry.degraded,
        entry.simulated,
        entry.target_quality,
        entry.outside_training,
        entry.key_id,
        entry.user,
        entry.team,
        json.dumps(entry.tags),
        entry.session,
        entry.trace_id,
        entry.cache,
        dollars(entry.saved_usd),
    )


def call_row(entry: CallEntry) -> tuple[object, ...]:
    usage = entry.usage
    return (
        entry.episode_id,
        entry.call_id,
        entry.at,
        entry.model,
        entry.provider,
        entry.kind,
        entry.turn,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        usage.estimated,
        dollars(entry.cost_usd),
        entry.latency_s,
        entry.error,
        entry.simulated,
    )


def read_episode(row: tuple[Any, ...]) -> EpisodeEntry:
    values = list(row)
    values[8], values[10] = Decimal(str(row[8])), Decimal(str(row[10]))
    values[16], values[18] = bool(row[16]), bool(row[18])
    values[22], values[26] = tuple(json.loads(row[22])), Decimal(str(row[26]))
    return EpisodeEntry(*values)


def read_call(row: tuple[Any, ...]) -> CallEntry:
    (episode_id, call_id, at, model, provider, kind, turn, *counts) = row
    prompt, completion, cached, reasoning, estimated, cost, latency, error, simulated = counts
    return CallEntry(
        call_id=call_id,
        episode_id=episode_id,
        at=at,
        model=model,
        provider=provider,
        kind=kind,
        turn=turn,
        usage=Usage(prompt, completion, cached, reasoning, bool(estimated)),
        cost_usd=Decimal(str(cost)),
        latency_s=latency,
        error=error,
        simulated=bool(simulated),
    )
