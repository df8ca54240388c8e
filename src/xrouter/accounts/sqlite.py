"""Accounts in one SQLite file, beside the ledger's: many processes may share it.

It is a file of its own, so that it can be kept, copied and protected apart from the books. One thread owns the
connection; a call waits for it off the event loop.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ..errors import AccountExistsError, AccountsError
from ..ledger.sqlite_file import open_file
from .account import Account, AccountKind
from .faults import accounts_error, exists, no_account, no_key
from .key import VirtualKey
from .rows import account_text, key_text, read_account, read_key
from .store import PAGE

T = TypeVar("T")

APPLICATION_ID = 0x78726163
"""How the file says that it holds accounts ("xrac")."""
SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 10.0

TABLES = (
    """CREATE TABLE keys (
        id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, previous_hash TEXT, name TEXT NOT NULL, user TEXT, team TEXT,
        body TEXT NOT NULL
    )""",
    "CREATE INDEX keys_previous_hash ON keys (previous_hash) WHERE previous_hash IS NOT NULL",
    "CREATE INDEX keys_user ON keys (user, id)",
    "CREATE INDEX keys_team ON keys (team, id)",
    "CREATE TABLE accounts (kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, id))",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


class SqliteAccounts:
    """Opens or makes the file at `path` (its folder too); opening blocks.

    busy_timeout_s: how long a call waits for other processes.
    Raises AccountsError when the file cannot be opened, is locked, or holds something else.
    """

    def __init__(self, path: str | Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.path = Path(path)
        self._busy_timeout_s = busy_timeout_s
        self._connection = self._guarded(self._open)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="accounts")
        self._closed = False

    async def add_key(self, key: VirtualKey) -> None:
        def add(connection: sqlite3.Connection) -> None:
            try:
                connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?)", _key_row(key))
            except sqlite3.IntegrityError as error:
                raise AccountExistsError(
                    f"key {key.id!r} or its secret is there already: make another"
                ) from error

        await self._run(add, write=True)

    async def key(self, key_id: str) -> VirtualKey | None:
        return await self._run(lambda connection: _key(connection, key_id))

    async def key_by_hash(self, secret_hash: str) -> VirtualKey | None:
        def find(connection: sqlite3.Connection) -> VirtualKey | None:
            row = connection.execute(
                "SELECT body FROM keys WHERE hash = ?1 OR previous_hash = ?1", (secret_hash,)
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
        wanted = {
            column: value
            for column, value in (("name", name), ("user", user), ("team", team))
            if value is not None
        }
        where = "".join(f" AND {column} = ?" for column in wanted)

        def find(connection: sqlite3.Connection) -> list[VirtualKey]:
            rows = connection.execute(
                f"SELECT body FROM keys WHERE id > ?{where} ORDER BY id LIMIT ?",
                (after, *wanted.values(), limit),
            )
            return [read_key(body) for (body,) in rows]

        return await self._run(find)

    async def change_key(self, key_id: str, change: Callable[[VirtualKey], VirtualKey]) -> VirtualKey:
        def replace(connection: sqlite3.Connection) -> VirtualKey:
            before = _key(connection, key_id)
            if before is None:
                raise no_key(key_id)
            after = change(before)
            connection.execute(
                "UPDATE keys SET hash = ?2, previous_hash = ?3, name = ?4, user = ?5, team = ?6, body = ?7 WHERE id = ?1",
                _key_row(after),
            )
            return after

        return await self._run(replace, write=True)

    async def has_keys(self) -> bool:
        return await self._run(
            lambda connection: connection.execute("SELECT 1 FROM keys LIMIT 1").fetchone() is not None
        )

    async def put_account(self, account: Account, *, replace: bool = True) -> None:
        def put(connection: sqlite3.Connection) -> None:
            verb = "INSERT OR REPLACE" if replace else "INSERT"
            try:
                connection.execute(
                    f"{verb} INTO accounts VALUES (?, ?, ?)",
                    (account.kind, account.id, account_text(account)),
                )
            except sqlite3.IntegrityError as error:
                raise exists(account) from error

        await self._run(put, write=True)

    async def account(self, kind: AccountKind, account_id: str) -> Account | None:
        return await self._run(lambda connection: _account(connection, kind, account_id))

    async def accounts(self, kind: AccountKind, *, after: str = "", limit: int = PAGE) -> Sequence[Account]:
        def find(connection: sqlite3.Connection) -> list[Account]:
            rows = connection.execute(
                "SELECT id, body FROM accounts WHERE kind = ? AND id > ? ORDER BY id LIMIT ?",
                (kind, after, limit),
            )
            return [read_account(kind, account_id, body) for account_id, body in rows]

        return await self._run(find)

    async def change_account(
        self, kind: AccountKind, account_id: str, change: Callable[[Account], Account]
    ) -> Account:
        def replace(connection: sqlite3.Connection) -> Account:
            before = _account(connection, kind, account_id)
            if before is None:
                raise no_account(kind, account_id)
            after = change(before)
            connection.execute(
                "UPDATE accounts SET body = ? WHERE kind = ? AND id = ?",
                (account_text(after), kind, account_id),
            )
            return after

        return await self._run(replace, write=True)

    async def remove_account(self, kind: AccountKind, account_id: str) -> None:
        def remove(connection: sqlite3.Connection) -> None:
            done = connection.execute("DELETE FROM accounts WHERE kind = ? AND id = ?", (kind, account_id))
            if not done.rowcount:
                raise no_account(kind, account_id)

        await self._run(remove, write=True)

    async def aclose(self) -> None:
        """Finish what is under way, then close. A second call does nothing."""
        if not self._closed:
            self._closed = True
            await asyncio.wrap_future(self._thread.submit(self._connection.close))
            self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[sqlite3.Connection], T], *, write: bool = False) -> T:
        """`work` in one transaction on the connection's thread; it ends even if the wait is cancelled."""
        if self._closed:
            raise AccountsError(f"the accounts {self.path} are closed: open them again")

        def guarded() -> T:
            return self._guarded(lambda: self._transaction(work, "BEGIN IMMEDIATE" if write else "BEGIN"))

        return await asyncio.shield(asyncio.wrap_future(self._thread.submit(guarded)))

    def _transaction(self, work: Callable[[sqlite3.Connection], T], begin: str) -> T:
        connection = self._connection
        connection.execute(begin)
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (OSError, sqlite3.Error) as error:
            raise accounts_error(self.path, error) from error

    def _open(self) -> sqlite3.Connection:
        return open_file(self.path, self._prepare, busy_timeout_s=self._busy_timeout_s, private=True)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA synchronous = FULL")
        self._create_or_check(connection)

    def _create_or_check(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if not tables:
                for statement in TABLES:
                    connection.execute(statement)
            elif application != APPLICATION_ID:
                raise AccountsError(f"{self.path} is a database but holds no accounts: name another file")
            elif version != SCHEMA_VERSION:
                raise AccountsError(
                    f"{self.path} holds accounts of schema version {version}, this program writes version "
                    f"{SCHEMA_VERSION}: name another file or use the program that wrote it"
                )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _key_row(key: VirtualKey) -> tuple[str | None, ...]:
    return (key.id, key.hash, key.previous_hash, key.name, key.user, key.team, key_text(key))


def _key(connection: sqlite3.Connection, key_id: str) -> VirtualKey | None:
    row = connection.execute("SELECT body FROM keys WHERE id = ?", (key_id,)).fetchone()
    return None if row is None else read_key(row[0])


def _account(connection: sqlite3.Connection, kind: AccountKind, account_id: str) -> Account | None:
    row = connection.execute(
        "SELECT body FROM accounts WHERE kind = ? AND id = ?", (kind, account_id)
    ).fetchone()
    return None if row is None else read_account(kind, account_id, row[0])
