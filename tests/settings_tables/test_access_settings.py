from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from xrouter.accounts.open import accounts_place, open_accounts
from xrouter.accounts.sqlite import SqliteAccounts
from xrouter.errors import ConfigurationError
from xrouter.settings import Settings, load_settings
from xrouter.settings_tables.access import AccessSettings, Limits, WhenStateIsDown


def load(folder: Path, text: str) -> AccessSettings:
    file = folder / "xrouter.toml"
    file.write_text(text)
    return load_settings(file, {}).access


def test_all_of_it(tmp_path: Path) -> None:
    assert load(
        tmp_path,
        """
        [access]
        require_keys = true
        admin_key_env = "MINE"
        store = "/var/keys.sqlite"
        key_cache_s = 0
        shrink_to_budget = true
        limits = { requests_per_minute = 1, tokens_per_minute = 2, parallel_requests = 3 }
        when_state_is_down = { budgets = "open", limits = "closed" }
        """,
    ) == AccessSettings(
        True, "MINE", Path("/var/keys.sqlite"), 0.0, True, WhenStateIsDown("open", "closed"), Limits(1, 2, 3)
    )
    assert load(tmp_path, "") == AccessSettings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("require_kyes = true", ["access.require_kyes", "did you mean 'require_keys'"]),
        ("require_keys = 1", ["access.require_keys", "true or false"]),
        ("admin_key_env = 'xr-a secret'", ["access.admin_key_env", "not the key itself"]),
        ("store = 'mysql://h/x'", ["access.store", "postgresql://"]),
        ("key_cache_s = -1", ["access.key_cache_s", "from 0 to 3600"]),
        ("limits = { rpm = 1 }", ["access.limits.rpm"]),
        ("limits = { requests_per_minute = 0 }", ["access.limits.requests_per_minute", "from 1"]),
        ("when_state_is_down = { budgets = 'maybe' }", ["access.when_state_is_down.budgets", "open, closed"]),
    ],
)
def test_a_mistake_names_itself(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(tmp_path, f"[access]\n{text}")
    assert all(word in raised.value.message for word in words), raised.value.message
    assert "xr-a secret" not in raised.value.message


def test_limits_fall_back_one_by_one() -> None:
    default = Limits(10, 20, None)
    assert Limits(None, 5, 7).over(default) == Limits(10, 5, 7)


def test_where_accounts_are_kept(tmp_path: Path) -> None:
    settings = Settings(ledger=tmp_path / "books.sqlite")
    assert accounts_place(settings) == tmp_path / "books.accounts.sqlite"
    named = replace(settings, access=AccessSettings(store=tmp_path / "mine.sqlite"))
    assert accounts_place(named) == tmp_path / "mine.sqlite"
    shared = Settings(ledger="postgresql://u@h/d")
    assert accounts_place(shared) == "postgresql://u@h/d"
    store = open_accounts(settings)
    assert isinstance(store, SqliteAccounts)
    asyncio.run(store.aclose())
    assert (tmp_path / "books.accounts.sqlite").exists()


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigurationError, match="PGPASSWORD_X"):
        open_accounts(Settings(ledger="postgresql://u:${PGPASSWORD_X}@h/d"), env={})
