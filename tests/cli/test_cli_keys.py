"""xrouter keys, in this process; one test calls a gateway over HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_kit import episode_entry
from typer.testing import CliRunner

from xrouter.accounts.memory import MemoryAccounts
from xrouter.accounts.sqlite import SqliteAccounts
from xrouter.cli import app
from xrouter.errors import AccountNotFoundError, ConfigurationError, RequestError, XRouterError
from xrouter.gateway.admin import admin_app
from xrouter.gateway.server import bind, running, url_of
from xrouter.ledger.memory import MemoryLedger
from xrouter.ledger.sqlite import SqliteLedger
from xrouter.settings_tables.access import AccessSettings

ADMIN_KEY = "an-admin-key-of-24-chars"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "xrouter.toml").write_text('ledger = "books.sqlite"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XROUTER_ADMIN_KEY", raising=False)
    return tmp_path


def keys(*words: str) -> str:
    """What was printed. Raises what the command raised."""
    done = CliRunner().invoke(app, ["keys", *words])
    if isinstance(done.exception, XRouterError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def data(*words: str) -> Any:
    return json.loads(keys(*words, "--json"))


def test_the_life_of_a_key(home: Path) -> None:
    secret = keys("create", "laptop", "--user", "ada", "--team", "search", "--budget", "10/month").strip()
    assert secret.startswith("xr-")
    (made,) = data("list")["keys"]
    assert made == data("show", "laptop") == data("show", made["id"])
    assert (made["user"], made["team"], made["models"]) == ("ada", "search", None)
    rotated = data("rotate", "laptop", "--grace", "1h")
    assert rotated["id"] == made["id"]
    assert rotated["secret"] != secret
    assert rotated["old_secret_until"] > made["created"] + 3500
    assert "revoked" in keys("revoke", "laptop")
    assert data("list")["keys"] == []
    (ended,) = data("list", "--all")["keys"]
    assert ended["state"] == "revoked"
    assert (home / "books.accounts.sqlite").exists()
    assert not (home / "books.sqlite").exists(), "managing keys makes no books"


def test_the_secret_alone_is_printed_where_a_script_reads_it() -> None:
    done = CliRunner().invoke(app, ["keys", "create", "k"])
    assert done.stdout.count("\n") == 1
    assert "stored nowhere" in done.stderr


def test_every_option_of_a_key() -> None:
    made = data(
        "create", "ci", "--model", "gpt-*", "--model", "qwen", "--tag", "a", "--tag", "b", "--expires", "2099-01-01",
        "--budget", "5/day", "--budget", "$50.5/month", "--rpm", "60", "--tpm", "0", "--parallel", "3",
    )  # fmt: skip
    assert (made["models"], made["tags"], made["expires_at"]) == (["gpt-*", "qwen"], ["a", "b"], 4070908800.0)
    assert [(b["amount_usd"], b["period"]) for b in made["budgets"]] == [("5", "day"), ("50.5", "month")]
    assert made["limits"] == {"requests_per_minute": 60, "tokens_per_minute": None, "parallel_requests": 3}


def test_budgets_of_whom_you_like() -> None:
    keys("create", "laptop", "--budget", "10/month", "--rpm", "5")
    changed = data("budget", "laptop", "20/month", "1/day", "--parallel", "2")
    assert {b["period"]: b["amount_usd"] for b in changed["budgets"]} == {"month": "20", "day": "1"}
    assert changed["limits"] == {"requests_per_minute": 5, "tokens_per_minute": None, "parallel_requests": 2}
    changed = data("budget", f"key:{changed['id']}", "--remove", "month", "--rpm", "0")
    assert [b["period"] for b in changed["budgets"]] == ["day"]
    assert changed["limits"]["requests_per_minute"] is None
    for owner in ("user:ada", "team:search", "tag:nightly"):
        assert data("budget", owner, "7/week")["budgets"][0]["scope"].startswith(f"{owner}/")
        assert data("budget", owner) == data("budget", owner)
        assert "7 of 7 a week" in keys("budget", owner)
    with pytest.raises(AccountNotFoundError, match="no user 'bob'"):
        keys("budget", "user:bob")


async def _book(path: Path, key_id: str) -> None:
    from dataclasses import replace

    ledger = SqliteLedger(path)
    for i, team in enumerate(["search", "search", None]):
        entry = replace(episode_entry(f"e{i}", at=1000.0 + i, cost="0.25"), key_id=key_id, team=team)
        await ledger.book(entry, [])
    await ledger.aclose()


def test_spending(home: Path) -> None:
    assert "No requests" in keys("spend")
    key_id = data("create", "k")["id"]
    asyncio.run(_book(home / "books.sqlite", key_id))
    assert data("spend")["data"] == [{"key": key_id, "requests": 3, "cost_usd": "0.75"}]
    shown = keys("spend", "--by", "team")
    assert "search" in shown
    assert "0.50" in shown
    assert "(no team)" in shown
    assert data("spend", "--until", "1970-01-01T00:16:41")["data"][0]["requests"] == 1
    assert data("spend", "--by", "team", "--limit", "1")["has_more"]


def test_tables_show_what_there_is() -> None:
    assert "There are no such keys" in keys("list")
    keys("create", "lap[top]", "--model", "gpt-*", "--budget", "10/month", "--budget", "3/total")
    listed = keys("list")
    for words in ("lap[top]", "active", "gpt-*", "10 of 10 a month; 3 of 3 in total"):
        assert words in listed
    assert "renews" in keys("show", "lap[top]")


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["show", "nobody"], AccountNotFoundError, "'nobody'"),
        (["show", "no body"], AccountNotFoundError, "'no body'"),
        (["rotate", "nobody"], AccountNotFoundError, "'nobody'"),
        (["revoke", "nobody"], AccountNotFoundError, "'nobody'"),
        (["create", "k", "--budget", "10"], RequestError, "USD/period, such as 10/month, got '10'"),
        (["create", "k", "--budget", "10/year"], RequestError, "'year'"),
        (["create", "k", "--budget", "ten/day"], RequestError, "'ten'"),
        (["create", "k", "--expires", "soon"], RequestError, "--expires"),
        (["create", "k", "--expires", "1999-01-01"], RequestError, "future"),
        (["create", "k", "--user", "a b"], RequestError, "user"),
        (["create", ""], RequestError, "name"),
        (["rotate", "k", "--grace", "long"], RequestError, "--grace"),
        (["budget", "team:a b", "1/day"], RequestError, "id must be"),
        (["spend", "--by", "colour"], RequestError, "key, user, team, tag, model"),
        (["spend", "--since", "soon"], RequestError, "since"),
        (["list", "--url", "http://127.0.0.1:1"], ConfigurationError, "set XROUTER_ADMIN_KEY"),
        (["list", "--config", "nowhere.toml"], ConfigurationError, "nowhere.toml"),
    ],
)
def test_mistakes_name_themselves(words: list[str], error: type[XRouterError], said: str) -> None:
    with pytest.raises(error) as raised:
        keys(*words)
    assert said in raised.value.message


def test_two_keys_of_one_name() -> None:
    first = data("create", "twin")["id"]
    second = data("create", "twin")["id"]
    with pytest.raises(RequestError, match=f"2 keys are named 'twin'.*{min(first, second)}"):
        keys("show", "twin")
    keys("revoke", first)
    assert data("show", "twin")["id"] == second


def test_the_store_that_the_settings_name(home: Path) -> None:
    (home / "xrouter.toml").write_text('ledger = "books.sqlite"\n[access]\nstore = "mine.sqlite"\n')
    keys("create", "k")
    assert (home / "mine.sqlite").exists()

    async def names() -> list[str]:
        store = SqliteAccounts("mine.sqlite")
        found = [key.name for key in await store.keys()]
        await store.aclose()
        return found

    assert asyncio.run(names()) == ["k"]


@pytest.fixture
def gateway() -> Iterator[str]:
    """The URL of an admin API that runs on a thread of its own."""
    api = admin_app(MemoryAccounts(), MemoryLedger(), AccessSettings(), admin_key=ADMIN_KEY)

    async def with_lifespan(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await api(scope, receive, send)
            return
        while (message := await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        assert message["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})

    listener, stop, loop = bind("127.0.0.1", 0), asyncio.Event(), asyncio.new_event_loop()

    async def serve() -> None:
        async with running(with_lifespan, listener):
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    yield url_of(listener)
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def test_a_gateway_elsewhere(gateway: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XROUTER_ADMIN_KEY", ADMIN_KEY)
    at = ("--url", f"{gateway}/v1")
    made = data("create", "laptop & co", "--team", "search", *at)
    assert data("show", "laptop & co", *at)["id"] == made["id"]
    assert data("budget", "team:search", "3/day", *at)["budgets"][0]["left_usd"] == "3"
    assert not (home / "books.accounts.sqlite").exists()
    with pytest.raises(AccountNotFoundError):
        keys("show", "nobody", *at)
    monkeypatch.setenv("OTHER", "not-the-admin-key-at-all")
    with pytest.raises(RequestError, match="not the admin key"):
        keys("list", *at, "--admin-key-env", "OTHER")


def test_no_gateway_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XROUTER_ADMIN_KEY", ADMIN_KEY)
    with pytest.raises(ConfigurationError, match="check --url"):
        keys("list", "--url", "http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match="check --url"):
        keys("list", "--url", "nonsense")
