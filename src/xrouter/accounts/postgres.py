"""Accounts in PostgreSQL, in the schema of the ledger: for gateways on several hosts.

One thread owns the connection and makes it anew when it is lost; a call waits for it off the event loop. A call whose
connection goes while it is under way is reported: whether its change was made, only a look can tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg
from psycopg import errors as postgres

from ..errors import AccountExistsError, AccountsError
from ..ledger.postgres import connection_info
from ..settings_tables.addresses import shown
from .account import Account, AccountKind
from .faults import exists, no_account, no_key
from .key import VirtualKey
from .rows import account_text, key_text, read_account, read_key
from .store import PAGE

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]

SCHEMA_VERSION = 1
TIMEOUT_S = 10.0
"""How long a call waits for a server that does not answer."""
_LOCK = 0x78726163
"""Of those who make the tables, one at a time."""

TABLES = (
    "CREATE SCHEMA IF NOT EXISTS xrouter",
    """CREATE TABLE IF NOT EXISTS xrouter.keys (
        id text COLLATE "C" PRIMARY KEY, hash text NOT NULL UNIQUE, previous_hash text, name text NOT NULL,
        "user" text, team text, body text NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS keys_previous_hash ON xrouter.keys (previous_hash) WHERE previous_hash IS NOT NULL",
    'CREATE INDEX IF NOT EXISTS keys_user ON xrouter.keys ("user", id)',
    "CREATE INDEX IF NOT EXISTS keys_team ON xrouter.keys (team, id)",
    """CREATE TABLE IF NOT EXISTS xrouter.accounts (
        kind text NOT NULL, id text COLLATE "C" NOT NULL, body text NOT NULL, PRIMARY KEY (kind, id)
    )""",
    "CREATE TABLE IF NOT EXISTS xrouter.accounts_version (version bigint NOT NULL)",
    """INSERT INTO xrouter.accounts_version SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM xrouter.accounts_version)""",
)


class PostgresAccounts:
    """Connects and makes the tables if need be, which blocks.

    url: postgresql://user@host/database, or anything else that libpq reads.
    Raises ConfigurationError for a URL that cannot be read, AccountsError when the server cannot be used.
    """

    def __init__(self, url: str) -> None:
        self.address = shown(url)
        self._conninfo = connection_info(url, "access.store")
        self._connection: Connection | None = None
        try:
            self._create_or_check()
        except psycopg.Error as error:
            raise self._error(error) from error
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="accounts")
        self._closed = False

    async def add_key(self, key: VirtualKey) -> None:
        def add(connection: Connection) -> None:
            try:
                connection.execute(
                    "INSERT INTO xrouter.keys VALUES (%s, %s, %s, %s, %s, %s, %s)", _key_row(key)
                )
            except postgres.UniqueViolation as error:
                raise AccountExistsError(
                    f"key {key.id!r} or its secret is there already: make another"
                ) from error

        await self._run(add)

    async def key(self, key_id: str) -> VirtualKey | None:
        return await self._run(lambda connection: _key(connection, key_id))

    async def key_by_hash(self, secret_hash: str) -> VirtualKey | None:
        def find(connection: Connection) -> VirtualKey | None:
            row = connection.execute(
                "SELECT body FROM xrouter.keys WHERE hash = %s OR previous_hash = %s",
                (secret_hash, secret_hash),
            ).fetchone()
            return None if row is None else read_key(row[0])

        return await self._run(find)

    async def keys(
        self,
        *,
        after: str = "",
        limit: int = PAGE,
        name: str | None = None,
        user: str | None = None,
        team: str | None = None,
    ) -> Sequence[VirtualKey]:
        def find(connection: Connection) -> list[VirtualKey]:
            rows = connection.execute(
                """SELECT body FROM xrouter.keys WHERE id > %s AND (%s::text IS NULL OR name = %s)
                AND (%s::text IS NULL OR "user" = %s) AND (%s::text IS NULL OR team = %s) ORDER BY id LIMIT %s""",
                (after, name, name, user, user, team, team, limit),
            )
            return [read_key(body) for (body,) in rows]

        return await self._run(find)

    async def change_key(self, key_id: str, change: Callable[[VirtualKey], VirtualKey]) -> VirtualKey:
        def replace(connection: Connection) -> VirtualKey:
            before = _key(connection, key_id, lock=True)
            if before is None:
                raise no_key(key_id)
            after = change(before)
            connection.execute(
                'UPDATE xrouter.keys SET hash = %s, previous_hash = %s, name = %s, "user" = %s, team = %s, body = %s'
                " WHERE id = %s",
                (*_key_row(after)[1:], key_id),
            )
            return after

        return await self._run(replace)

    async def has_keys(self) -> bool:
        return await self._run(
            lambda connection: connection.execute("SELECT 1 FROM xrouter.keys LIMIT 1").fetchone() is not None
        )

    async def put_account(self, account: Account, *, replace: bool = True) -> None:
        def put(connection: Connection) -> None:
            done = connection.execute(
                "INSERT INTO xrouter.accounts VALUES (%s, %s, %s) ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body"
                " WHERE %s",
                (account.kind, account.id, account_text(account), replace),
            )
            if not done.rowcount:
                raise exists(account)

        await self._run(put)

    async def account(self, kind: AccountKind, account_id: str) -> Account | None:
        return await self._run(lambda connection: _account(connection, kind, account_id))

    async def accounts(self, kind: AccountKind, *, after: str = "", limit: int = PAGE) -> Sequence[Account]:
        def find(connection: Connection) -> list[Account]:
            rows = connection.execute(
                "SELECT id, body FROM xrouter.accounts WHERE kind = %s AND id > %s ORDER BY id LIMIT %s",
                (kind, after, limit),
            )
            return [read_account(kind, account_id, body) for account_id, body in rows]

        return await self._run(find)

    async def change_account(
        self, kind: AccountKind, account_id: str, change: Callable[[Account], Account]
    ) -> Account:
        def replace(connection: Connection) -> Account:
            before = _account(connection, kind, account_id, lock=True)
            if before is None:
                raise no_account(kind, account_id)
            after = change(before)
            connection.execute(
                "UPDATE xrouter.accounts SET body = %s WHERE kind = %s AND id = %s",
                (account_text(after), kind, account_id),
            )
            return after

        return await self._run(replace)

    async def remove_account(self, kind: AccountKind, account_id: str) -> None:
        def remove(connection: Connection) -> None:
            done = connection.execute(
                "DELETE FROM xrouter.accounts WHERE kind = %s AND id = %s", (kind, account_id)
            )
            if not done.rowcount:
                raise no_account(kind, account_id)

        await self._run(remove)

    async def aclose(self) -> None:
        """Finish what is under way, then close. A second call does nothing."""
        if not self._closed:
            self._closed = True
            await asyncio.wrap_future(self._thread.submit(self._drop))
            self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[Connection], T]) -> T:
        """`work` in one transaction on the connection's thread; it ends even if the wait is cancelled."""
        if self._closed:
            raise AccountsError(f"the accounts {self.address} are closed: open them again")
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await asyncio.shield(asyncio.wrap_future(self._thread.submit(self._transaction, work)))
        except TimeoutError:
            raise AccountsError(
                f"accounts {self.address} did not answer within {TIMEOUT_S:g} s: check the server"
            ) from None

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        try:
            connection = self._alive()
            with connection.transaction():
                return work(connection)
        except psycopg.Error as error:
            raise self._error(error) from error

    def _alive(self) -> Connection:
        """The connection; where it died since it was last used, a new one."""
        if self._connection is not None:
            try:
                self._connection.execute("SELECT 1")
            except psycopg.OperationalError:
                self._drop()
        if self._connection is None:
            self._connection = psycopg.connect(self._conninfo, autocommit=True)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _create_or_check(self) -> None:
        connection = self._alive()
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            for statement in TABLES:
                connection.execute(statement.encode())
            (version,) = connection.execute("SELECT max(version) FROM xrouter.accounts_version").fetchall()[0]
        if version != SCHEMA_VERSION:
            self._drop()
            raise AccountsError(
                f"{self.address} holds accounts of schema version {version}, this program writes version "
                f"{SCHEMA_VERSION}: name another database or use the program that wrote it"
            )

    def _error(self, error: psycopg.Error) -> AccountsError:
        return AccountsError(
            f"accounts {self.address} cannot be used: {' '.join(str(error).split())}; "
            "check that the server runs, and the rights of the user"
        )


def _key_row(key: VirtualKey) -> tuple[str | None, ...]:
    return (key.id, key.hash, key.previous_hash, key.name, key.user, key.team, key_text(key))


def _key(connection: Connection, key_id: str, *, lock: bool = False) -> VirtualKey | None:
    select = "SELECT body FROM xrouter.keys WHERE id = %s" + (" FOR UPDATE" if lock else "")
    row = connection.execute(select.encode(), (key_id,)).fetchone()
    return None if row is None else read_key(row[0])


def _account(
    connection: Connection, kind: AccountKind, account_id: str, *, lock: bool = False
) -> Account | None:
    select = "SELECT body FROM xrouter.accounts WHERE kind = %s AND id = %s" + (" FOR UPDATE" if lock else "")
    row = connection.execute(select.encode(), (kind, account_id)).fetchone()
    return None if row is None else read_account(kind, account_id, row[0])
