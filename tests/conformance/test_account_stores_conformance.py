"""One battery over every store of accounts: whatever is in `xrouter.accounts` and keeps keys.

A new store is found by itself; it needs one entry in MAKERS.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pkgutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from accounts_kit import NOW, account, budget

import xrouter.accounts
from xrouter.accounts.key import VirtualKey
from xrouter.accounts.memory import MemoryAccounts
from xrouter.accounts.postgres import PostgresAccounts
from xrouter.accounts.sqlite import SqliteAccounts
from xrouter.accounts.store import AccountStore
from xrouter.errors import AccountExistsError, AccountNotFoundError
from xrouter.settings_tables.access import Limits

MAKERS: dict[type, Callable[[pytest.FixtureRequest, Path], Any]] = {
    MemoryAccounts: lambda request, folder: MemoryAccounts(),
    PostgresAccounts: lambda request, folder: PostgresAccounts(
        request.getfixturevalue("postgres_server").emptied()
    ),
    SqliteAccounts: lambda request, folder: SqliteAccounts(folder / "new" / "accounts.sqlite"),
}

FULL = VirtualKey(
    id="k1",
    name="Ada's laptop",
    hash="a" * 64,
    shown="xr-abcde...",
    created=NOW + 0.25,
    user="ada",
    team="search",
    models=("gpt-*", "qwen"),
    tags=("app", "blue"),
    expires_at=NOW + 60,
    revoked=NOW + 1,
    budgets=(budget("0.1"), budget("123456789.000000000001", "total")),
    limits=Limits(10, None, 3),
    previous_hash="b" * 64,
    previous_until=NOW + 2,
)
PLAIN = VirtualKey("k2", "plain", "c" * 64, "xr-zzzzz...", NOW)


def stores() -> list[type]:
    found = set()
    for module in pkgutil.iter_modules(xrouter.accounts.__path__, "xrouter.accounts."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if kind is not AccountStore and kind.__module__ == module.name and hasattr(kind, "key_by_hash"):
                found.add(kind)
    return sorted(found, key=lambda kind: kind.__name__)


@pytest.fixture(params=stores(), ids=lambda kind: kind.__name__)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    made = MAKERS[request.param](request, tmp_path)
    yield made
    await made.aclose()


async def test_speaks_the_protocol(store: Any) -> None:
    assert isinstance(store, AccountStore)


async def test_an_empty_store(store: AccountStore) -> None:
    assert not await store.has_keys()
    assert await store.key("k1") is None
    assert await store.key_by_hash("a" * 64) is None
    assert list(await store.keys()) == []
    assert await store.account("team", "search") is None
    assert list(await store.accounts("team")) == []


async def test_a_key_comes_back_as_it_went(store: AccountStore) -> None:
    for key in (FULL, PLAIN):
        await store.add_key(key)
        assert await store.key(key.id) == key
        assert await store.key_by_hash(key.hash) == key
    assert await store.key_by_hash("b" * 64) == FULL
    assert await store.has_keys()
    found = await store.key("k1")
    assert found is not None
    assert found.budgets[1].amount_usd == Decimal("123456789.000000000001")


async def test_no_id_and_no_secret_is_there_twice(store: AccountStore) -> None:
    await store.add_key(FULL)
    for again in (replace(PLAIN, id="k1"), replace(PLAIN, hash=FULL.hash)):
        with pytest.raises(AccountExistsError):
            await store.add_key(again)
    assert list(await store.keys()) == [FULL]


async def test_lists_go_page_by_page_in_order(store: AccountStore) -> None:
    keys = [replace(PLAIN, id=f"k{i:03}", hash=f"{i:064}", user="ada" if i % 2 else "bob") for i in range(25)]
    for key in reversed(keys):
        await store.add_key(key)
    pages, after = [], ""
    while page := await store.keys(after=after, limit=10):
        pages.append(len(page))
        assert list(page) == keys[sum(pages) - len(page) : sum(pages)]
        after = page[-1].id
    assert pages == [10, 10, 5]
    assert [key.id for key in await store.keys(user="ada", limit=3)] == ["k001", "k003", "k005"]
    assert list(await store.keys(user="ada", name="other")) == []
    assert list(await store.keys(team="search")) == []


async def test_a_change_replaces_and_old_secrets_are_forgotten(store: AccountStore) -> None:
    await store.add_key(FULL)
    new = await store.change_key(
        "k1", lambda key: replace(key, hash="d" * 64, previous_hash=key.hash, name="new")
    )
    assert (
        await store.key("k1") == new == await store.key_by_hash("d" * 64) == await store.key_by_hash("a" * 64)
    )
    assert await store.key_by_hash("b" * 64) is None
    assert [key.id for key in await store.keys(name="new")] == ["k1"]


async def test_a_change_that_fails_changes_nothing(store: AccountStore) -> None:
    await store.add_key(FULL)

    def refuse(key: VirtualKey) -> VirtualKey:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.change_key("k1", refuse)
    assert await store.key("k1") == FULL
    with pytest.raises(AccountNotFoundError, match="'k9'"):
        await store.change_key("k9", lambda key: key)


async def test_of_many_changes_at_once_none_is_lost(store: AccountStore) -> None:
    await store.add_key(PLAIN)
    await asyncio.gather(
        *(
            store.change_key("k2", lambda key, i=i: replace(key, tags=(*key.tags, f"t{i}")))  # type: ignore[misc]
            for i in range(20)
        )
    )
    key = await store.key("k2")
    assert key is not None
    assert sorted(key.tags) == sorted(f"t{i}" for i in range(20))


async def test_accounts_come_back_and_their_kinds_keep_apart(store: AccountStore) -> None:
    made = [
        account("user", "x", budget("1")),
        account("team", "x", limits=Limits(1, 2, 3)),
        account("tag", "x"),
    ]
    for one in made:
        await store.put_account(one, replace=False)
    for one in made:
        assert await store.account(one.kind, "x") == one
        assert list(await store.accounts(one.kind)) == [one]
    with pytest.raises(AccountExistsError, match="user 'x'"):
        await store.put_account(account("user", "x"), replace=False)
    await store.put_account(account("user", "x"))
    assert await store.account("user", "x") == account("user", "x")


async def test_accounts_change_and_end(store: AccountStore) -> None:
    await store.put_account(account("team", "x"))
    changed = await store.change_account("team", "x", lambda one: replace(one, budgets=(budget("2", "day"),)))
    assert await store.account("team", "x") == changed
    assert changed.budgets == (budget("2", "day"),)
    await store.remove_account("team", "x")
    assert await store.account("team", "x") is None
    with pytest.raises(AccountNotFoundError):
        await store.remove_account("team", "x")
    with pytest.raises(AccountNotFoundError):
        await store.change_account("team", "x", lambda one: one)


async def test_lists_of_accounts_go_page_by_page(store: AccountStore) -> None:
    made = [account("tag", f"t{i}") for i in range(5)]
    for one in reversed(made):
        await store.put_account(one)
    assert list(await store.accounts("tag", limit=3)) == made[:3]
    assert list(await store.accounts("tag", after="t2", limit=3)) == made[3:]


async def test_closing_twice_is_fine(store: AccountStore) -> None:
    await store.aclose()
    await store.aclose()
