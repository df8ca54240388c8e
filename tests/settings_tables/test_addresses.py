from __future__ import annotations

from pathlib import Path

import pytest

from xrouter.errors import ConfigurationError
from xrouter.settings import Settings, load_settings
from xrouter.settings_tables.addresses import expanded, ledger_place, shown


def load(tmp_path: Path, text: str, env: dict[str, str] | None = None) -> Settings:
    file = tmp_path / "xrouter.toml"
    file.write_text(text)
    return load_settings(file, env or {})


def test_books_are_a_path_or_a_database(tmp_path: Path) -> None:
    assert load(tmp_path, 'ledger = "~/b.sqlite"').ledger == Path.home() / "b.sqlite"
    assert load(tmp_path, 'ledger = "sqlite:b.sqlite"').ledger == Path("b.sqlite")
    url = "postgresql://ann:${PASSWORD}@db/books?sslmode=require"
    assert load(tmp_path, f'ledger = "{url}"').ledger == url
    assert load(tmp_path, "", {"XROUTER_LEDGER": "postgres://db/books"}).ledger == "postgres://db/books"
    assert ledger_place("books.sqlite", "--ledger") == Path("books.sqlite")


@pytest.mark.parametrize(
    "state", ["memory", "sqlite:~/s.sqlite", "redis://host", "rediss://:p@h:1/2", "valkey://h"]
)
def test_state_is_kept_in_one_of_three_ways(tmp_path: Path, state: str) -> None:
    assert load(tmp_path, f'state = "{state}"').state == state
    assert load(tmp_path, "", {"XROUTER_STATE": state}).state == state


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('ledger = "mysql://ann:geheim@db/x"', ["ledger", "postgresql://", "mysql://ann@db/x"]),
        ('ledger = ""', ["ledger"]),
        ('state = "redi://:geheim@host"', ["state", "redis://host:6379/0", "redi://host"]),
        ('state = "sqlite:"', ["state", "sqlite:PATH"]),
        ('state = "disk"', ["state", "'disk'"]),
        ("state = 1", ["state", "1"]),
    ],
)
def test_other_addresses_are_refused_without_their_passwords(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text)
    assert all(word in str(caught.value) for word in words)
    assert "geheim" not in str(caught.value)


def test_variables_are_put_in_percent_encoded() -> None:
    env = {"PASSWORD": "a/b@c:d", "HOST": "db"}
    assert expanded("postgresql://x:${PASSWORD}@${HOST}/y", env, param="ledger") == (
        "postgresql://x:a%2Fb%40c%3Ad@db/y"
    )
    with pytest.raises(ConfigurationError, match="MISSING: set it") as caught:
        expanded("redis://:geheim@h?x=${MISSING}", env, param="state")
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (Path("a/b.sqlite"), "a/b.sqlite"),
        ("postgresql://ann:pass@word@db:1/x", "postgresql://ann@db:1/x"),
        ("postgresql://ann@db/x", "postgresql://ann@db/x"),
        ("redis://:p/q@h/0", "redis://h/0"),
        (
            "postgresql://db/x?user=a&password=p&sslmode=require",
            "postgresql://db/x?user=a&password=(not shown)&sslmode=require",
        ),
        ("memory", "memory"),
    ],
)
def test_addresses_are_shown_without_passwords(address: Path | str, words: str) -> None:
    assert shown(address) == words
