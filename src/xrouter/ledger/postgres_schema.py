"""The PostgreSQL tables of the books, in a schema of their own. Their columns are those of `rows`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .migrations import pending
from .spend import SpendBy

if TYPE_CHECKING:
    from psycopg import Connection

SCHEMA_VERSION = 1

_EPISODES = {
    "episode_id": "text PRIMARY KEY",
    "at": "double precision NOT NULL",
    "policy": "text NOT NULL",
    "policy_version": "text NOT NULL",
    "route": "text NOT NULL",
    "calls": "bigint NOT NULL",
    "answer_model": "text",
    "stop_reason": "text NOT NULL",
    "cost_usd": "numeric NOT NULL",
    "reference_model": "text NOT NULL",
    "reference_cost_usd": "numeric NOT NULL",
    "confidence": "double precision",
    "latency_s": "double precision NOT NULL",
    "cost_weight": "double precision NOT NULL",
    "error": "text",
    "degraded": "text",
    "simulated": "boolean NOT NULL",
    "target_quality": "double precision",
    "outside_training": "boolean NOT NULL",
    "key_id": "text",
    '"user"': "text",
    "team": "text",
    "tags": "text NOT NULL",
    "session": "text",
    "trace_id": "text",
    "cache": "text",
    "saved_usd": "numeric NOT NULL",
}
_CALLS = {
    "episode_id": "text NOT NULL REFERENCES xrouter.episodes (episode_id)",
    "call_id": "text NOT NULL",
    "at": "double precision NOT NULL",
    "model": "text NOT NULL",
    "provider": "text NOT NULL",
    "kind": "text NOT NULL",
    "turn": "bigint NOT NULL",
    "prompt_tokens": "bigint NOT NULL",
    "completion_tokens": "bigint NOT NULL",
    "cached_tokens": "bigint NOT NULL",
    "reasoning_tokens": "bigint NOT NULL",
    "estimated": "boolean NOT NULL",
    "cost_usd": "numeric NOT NULL",
    "latency_s": "double precision NOT NULL",
    "error": "text",
    "simulated": "boolean NOT NULL",
}


def _columns(columns: dict[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns.items())


MIGRATIONS = {
    0: (
        f"CREATE TABLE xrouter.episodes ({_columns(_EPISODES)})",
        f"CREATE TABLE xrouter.calls ({_columns(_CALLS)}, place bigint GENERATED ALWAYS AS IDENTITY,"
        " PRIMARY KEY (episode_id, call_id))",
        "CREATE TABLE xrouter.spent (scope text PRIMARY KEY, cost_usd numeric NOT NULL, version bigint NOT NULL)",
        "CREATE INDEX episodes_at ON xrouter.episodes (at)",
        "CREATE INDEX calls_at ON xrouter.calls (at)",
        """CREATE FUNCTION xrouter.append_only() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN RAISE EXCEPTION 'the ledger is append-only'; END$$""",
        *(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON xrouter.{table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION xrouter.append_only()"
            for table in ("episodes", "calls")
        ),
    ),
}
"""From each older version to the next; 0 is a database without books."""

_LOCK = 0x78526F75746572
"""Of `pg_advisory_xact_lock`: gateways that start together make the tables one after the other."""


def _insert(table: str, columns: dict[str, str]) -> str:
    names = ", ".join(columns)
    arrays = ", ".join(f"%s::{kind.removeprefix('double ').split()[0]}[]" for kind in columns.values())
    return f"INSERT INTO xrouter.{table} ({names}) SELECT * FROM unnest({arrays})".replace(
        "::precision[]", "::double precision[]"
    )


INSERT_EPISODES = _insert("episodes", _EPISODES)
INSERT_CALLS = _insert("calls", _CALLS)
"""Each takes one array a column: any number of rows by one statement."""

CHARGE = """INSERT INTO xrouter.spent AS old SELECT * FROM unnest(%s::text[], %s::numeric[], %s::bigint[])
    ON CONFLICT (scope) DO UPDATE SET cost_usd = old.cost_usd + excluded.cost_usd,
    version = old.version + excluded.version RETURNING scope, cost_usd, version"""
"""Takes scopes in order, so that two gateways never wait for one another, what each is charged and by how many."""

SELECT_EPISODE = f"SELECT {', '.join(_EPISODES)} FROM xrouter.episodes WHERE episode_id = %s"
SELECT_CALLS = f"SELECT {', '.join(_CALLS)} FROM xrouter.calls WHERE episode_id = %s ORDER BY place"
SELECT_BOOKED = "SELECT episode_id FROM xrouter.episodes WHERE episode_id = ANY(%s)"
SELECT_SPENT = "SELECT scope, cost_usd, version FROM xrouter.spent WHERE scope = ANY(%s)"

_SPAN = "at >= %s AND at < %s"
SUM_BOOKS = (
    "SELECT count(*), count(error), sum(cost_usd), sum(reference_cost_usd), count(*) FILTER (WHERE simulated) "
    f"FROM xrouter.episodes WHERE {_SPAN}"
)
SUM_ROUTES = (
    f"SELECT route, count(*) AS n, sum(cost_usd) FROM xrouter.episodes WHERE {_SPAN} "
    'GROUP BY route ORDER BY n DESC, route COLLATE "C" LIMIT %s'
)
SUM_MODELS = (
    "SELECT model, count(*), count(error), sum(cost_usd), sum(prompt_tokens), sum(completion_tokens), "
    f"sum(cached_tokens), sum(reasoning_tokens), bool_or(estimated) FROM xrouter.calls WHERE {_SPAN} GROUP BY model"
)
_SUM_SPEND = "SELECT {0}, count(*), sum(cost_usd) FROM xrouter.{1} WHERE " + _SPAN + " GROUP BY 1"
SUM_SPEND: dict[SpendBy, str] = {
    "key": _SUM_SPEND.format("key_id", "episodes"),
    "user": _SUM_SPEND.format('"user"', "episodes"),
    "team": _SUM_SPEND.format("team", "episodes"),
    "tag": _SUM_SPEND.format(
        "tag", "episodes LEFT JOIN LATERAL jsonb_array_elements_text(tags::jsonb) AS each (tag) ON true"
    ),
    "model": _SUM_SPEND.format("model", "calls"),
}


def create_or_check(connection: Connection[Any], where: str) -> None:
    """Make the tables, or bring those of an older version up to date. Raises LedgerError for those of a newer one."""
    if _version(connection) == SCHEMA_VERSION:
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        version = _version(connection)
        if version == 0:
            connection.execute("CREATE SCHEMA IF NOT EXISTS xrouter")
            connection.execute(
                "CREATE TABLE xrouter.ledger_version (version bigint NOT NULL, at timestamptz NOT NULL DEFAULT now())"
            )
        for reached, statements in pending(where, version, SCHEMA_VERSION, MIGRATIONS):
            for statement in statements:
                connection.execute(statement.encode())
            connection.execute("INSERT INTO xrouter.ledger_version (version) VALUES (%s)", (reached,))


def _version(connection: Connection[Any]) -> int:
    # to_regclass would answer from a cache that is older than what the lock waited for.
    there = connection.execute(
        "SELECT 1 FROM pg_tables WHERE schemaname = 'xrouter' AND tablename = 'ledger_version'"
    ).fetchone()
    row = connection.execute("SELECT max(version) FROM xrouter.ledger_version").fetchone() if there else None
    return int(row[0]) if row else 0
