"""The admin API, driven as an ASGI application."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from accounts_kit import make_gate
from ledger_kit import call_entry, episode_entry

from xrouter.accounts.budget import scope_of
from xrouter.accounts.memory import MemoryAccounts
from xrouter.accounts.sqlite import SqliteAccounts
from xrouter.accounts.store import AccountStore
from xrouter.errors import KeyRefusedError
from xrouter.gateway.admin import admin_app
from xrouter.ledger.ledger import Ledger
from xrouter.ledger.memory import MemoryLedger
from xrouter.ledger.sqlite import SqliteLedger
from xrouter.settings_tables.access import AccessSettings

ADMIN_KEY = "an-admin-key-of-24-chars"


class Admin:
    """Calls the API. `changes` counts what it made known."""

    def __init__(
        self,
        store: AccountStore | None = None,
        ledger: Ledger | None = None,
        admin_key: str | None = ADMIN_KEY,
    ) -> None:
        self.store = store or MemoryAccounts()
        self.ledger = ledger or MemoryLedger()
        self.changes = 0
        self.app = admin_app(
            self.store, self.ledger, AccessSettings(), admin_key=admin_key, changed=self._changed
        )

    def _changed(self) -> None:
        self.changes += 1

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = ADMIN_KEY,
        expect: int | None = 200,
    ) -> Any:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        path, _, query = path.partition("?")
        headers = [(b"x-request-id", b"req-1")] + (
            [(b"authorization", f"Bearer {key}".encode())] if key else []
        )
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": query.encode(), "headers": headers, "client": ("127.0.0.9", 4), "http_version": "1.1",
            "scheme": "http", "server": ("127.0.0.1", 80),
        }  # fmt: skip
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": raw}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        self.headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        assert self.headers["content-type"] == "application/json"
        assert self.headers["cache-control"] == "no-store"
        assert self.headers["x-request-id"] == "req-1"
        answer = json.loads(b"".join(message.get("body", b"") for message in sent))
        assert expect in (sent[0]["status"], None), answer
        return answer


FULL = {
    "name": "Ada's laptop",
    "user": "ada",
    "team": "search",
    "models": ["gpt-*"],
    "tags": ["app"],
    "expires_in_s": 3600,
    "budgets": [{"amount_usd": "10.50", "period": "month"}, {"amount_usd": 0.1, "period": "day"}],
    "limits": {"requests_per_minute": 60, "tokens_per_minute": None},
}


class TestWhoMay:
    @pytest.mark.parametrize(
        ("key", "status"), [(None, 401), ("wrong-key-of-24-charact", 401), (ADMIN_KEY, 200)]
    )
    async def test_only_the_admin_key_opens_it(self, key: str | None, status: int) -> None:
        answer = await Admin()("GET", "/admin/keys", key=key, expect=status)
        if status == 401:
            assert answer["error"]["type"] == "authentication_error"

    async def test_a_virtual_key_does_not(self) -> None:
        admin = Admin()
        made = await admin("POST", "/admin/keys", {"name": "k"}, expect=201)
        answer = await admin("GET", "/admin/keys", key=made["secret"], expect=401)
        assert "virtual key" in answer["error"]["message"]

    async def test_without_a_configured_key_it_is_off(self) -> None:
        answer = await Admin(admin_key=None)("GET", "/admin/keys", expect=403)
        assert "XROUTER_ADMIN_KEY" in answer["error"]["message"]

    async def test_nothing_is_told_before_the_key_is_checked(self) -> None:
        answer = await Admin()("GET", "/admin/nowhere", key=None, expect=401)
        assert answer["error"]["code"] == "invalid_api_key"


class TestKeys:
    async def test_the_life_of_a_key(self) -> None:
        admin = Admin()
        gate = make_gate(admin.store, ledger=admin.ledger)
        made = await admin("POST", "/admin/keys", FULL, expect=201)
        secret, key_id = made.pop("secret"), made["id"]
        assert (await gate.identify(secret)).key_id == key_id
        shown = await admin("GET", f"/admin/keys/{key_id}")
        assert shown == made
        assert shown["state"] == "active"
        assert shown["shown"] == secret[:8] + "..."
        assert (shown["user"], shown["team"], shown["models"], shown["tags"]) == (
            "ada",
            "search",
            ["gpt-*"],
            ["app"],
        )
        assert shown["expires_at"] == pytest.approx(time.time() + 3600, abs=5)
        assert [(b["amount_usd"], b["spent_usd"], b["left_usd"]) for b in shown["budgets"]] == [
            ("10.50", "0", "10.50"),
            ("0.1", "0", "0.1"),
        ]
        assert shown["limits"] == {
            "requests_per_minute": 60,
            "tokens_per_minute": None,
            "parallel_requests": None,
        }
        assert await admin("GET", "/admin/users/ada")
        assert await admin("GET", "/admin/teams/search")

        changed = await admin(
            "PATCH", f"/admin/keys/{key_id}", {"models": None, "name": "other", "expires_at": None}
        )
        assert (changed["models"], changed["name"], changed["expires_at"]) == (None, "other", None)
        assert changed["budgets"] == shown["budgets"], "what is not named stays"

        rotated = await admin("POST", f"/admin/keys/{key_id}/rotate", {"grace_s": 60})
        assert rotated["secret"] != secret
        assert rotated["id"] == key_id
        for good in (secret, rotated["secret"]):
            assert (await gate.identify(good)).key_id == key_id
        again = await admin("POST", f"/admin/keys/{key_id}/rotate")
        assert again["old_secret_until"] is None
        gate.forget()
        for bad in (secret, rotated["secret"]):
            with pytest.raises(KeyRefusedError):
                await gate.identify(bad)

        revoked = await admin("DELETE", f"/admin/keys/{key_id}")
        assert revoked["state"] == "revoked"
        assert (await admin("DELETE", f"/admin/keys/{key_id}"))["revoked"] == revoked["revoked"]
        for method, path in (("PATCH", ""), ("POST", "/rotate")):
            answer = await admin(method, f"/admin/keys/{key_id}{path}", {}, expect=400)
            assert "revoked, for good" in answer["error"]["message"]
        gate.forget()
        with pytest.raises(KeyRefusedError):
            await gate.identify(again["secret"])
        assert admin.changes == 6

    async def test_lists_go_page_by_page(self) -> None:
        admin = Admin()
        made = {
            (
                await admin(
                    "POST", "/admin/keys", {"name": f"k{i}", "user": "ada" if i < 3 else "bob"}, expect=201
                )
            )["id"]
            for i in range(5)
        }
        seen, after = [], ""
        while True:
            page = await admin("GET", f"/admin/keys?limit=2&after={after}")
            seen += [key["id"] for key in page["data"]]
            after = page["last_id"]
            if not page["has_more"]:
                break
        assert seen == sorted(made)
        assert len((await admin("GET", "/admin/keys?user=ada"))["data"]) == 3
        (one,) = (await admin("GET", "/admin/keys?name=k4"))["data"]
        assert one["user"] == "bob"

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({}, "name"),
            ({"name": ""}, "name"),
            ({"name": 3}, "name"),
            ({"name": "two\nlines"}, "name"),
            ({"name": "k", "nmae": "k"}, "nmae"),
            ({"name": "k", "user": "a/b"}, "user"),
            ({"name": "k", "team": ["t"]}, "team"),
            ({"name": "k", "models": []}, "models"),
            ({"name": "k", "models": "gpt-5"}, "models"),
            ({"name": "k", "models": ["x"] * 500}, "models"),
            ({"name": "k", "tags": ["a b"]}, "tags"),
            ({"name": "k", "tags": None}, "tags"),
            ({"name": "k", "expires_at": 5}, "expires_at"),
            ({"name": "k", "expires_at": "soon"}, "expires_at"),
            ({"name": "k", "expires_in_s": -1}, "expires_in_s"),
            ({"name": "k", "expires_in_s": 1, "expires_at": 9e9}, "expires_in_s"),
            ({"name": "k", "budgets": {"amount_usd": 1}}, "budgets"),
            ({"name": "k", "budgets": [{"amount_usd": 1}]}, "budgets[0].period"),
            ({"name": "k", "budgets": [{"amount_usd": "ten", "period": "day"}]}, "amount_usd"),
            ({"name": "k", "budgets": [{"amount_usd": True, "period": "day"}]}, "amount_usd"),
            ({"name": "k", "budgets": [{"amount_usd": -1, "period": "day"}]}, "amount_usd"),
            ({"name": "k", "budgets": [{"amount_usd": "NaN", "period": "day"}]}, "amount_usd"),
            ({"name": "k", "budgets": [{"amount_usd": 1, "period": "year"}]}, "period"),
            ({"name": "k", "budgets": [{"amount_usd": 1, "period": "day"}] * 2}, "budgets"),
            ({"name": "k", "limits": []}, "limits"),
            ({"name": "k", "limits": {"rpm": 1}}, "rpm"),
            ({"name": "k", "limits": {"requests_per_minute": 0}}, "requests_per_minute"),
            ({"name": "k", "limits": {"requests_per_minute": 1.5}}, "requests_per_minute"),
            (b"{", None),
            (b"[1]", None),
            (b"\xff", None),
            (b"[" * 2000, None),
        ],
    )
    async def test_a_body_at_fault_makes_nothing(self, body: Any, param: str | None) -> None:
        admin = Admin()
        answer = await admin("POST", "/admin/keys", body, expect=400)
        assert answer["error"]["type"] == "invalid_request_error"
        assert answer["error"]["param"] == param
        assert (await admin("GET", "/admin/keys"))["data"] == []
        assert (await admin("GET", "/admin/users"))["data"] == []
        assert admin.changes == 0

    @pytest.mark.parametrize(
        "query",
        ["limit=0", "limit=1001", "limit=x", "limit=-1", "limit=1e3", "limit=" + "9" * 5000, "lmit=3"],
    )
    async def test_a_query_at_fault(self, query: str) -> None:
        answer = await Admin()("GET", f"/admin/keys?{query}", expect=400)
        assert answer["error"]["param"] in ("limit", "lmit")

    async def test_what_is_not_there(self) -> None:
        admin = Admin()
        for method, path in (
            ("GET", "keys/nobody"),
            ("PATCH", "keys/nobody"),
            ("DELETE", "keys/nobody"),
            ("POST", "keys/nobody/rotate"),
            ("GET", "users/nobody"),
            ("PATCH", "teams/nobody"),
            ("DELETE", "tags/nobody"),
        ):
            answer = await admin(method, f"/admin/{path}", expect=404)
            assert "'nobody'" in answer["error"]["message"]
        assert (await admin("GET", "/admin/keys/a\0b", expect=404))["error"]["code"] == "unknown_url"
        assert (await admin("GET", "/admin/keys?after=%00", expect=400))["error"]["param"] == "after"
        assert (await admin("GET", "/admin/nowhere", expect=404))["error"]["code"] == "unknown_url"
        assert admin.changes == 0

    async def test_the_wrong_method(self) -> None:
        admin = Admin()
        await admin("PUT", "/admin/keys", expect=405)
        assert set(admin.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}

    async def test_a_body_too_large(self) -> None:
        answer = await Admin()("POST", "/admin/keys", b" " * 300_000, expect=413)
        assert answer["error"]["code"] == "body_too_large"


class TestAccounts:
    @pytest.mark.parametrize("kind", ["user", "team", "tag"])
    async def test_the_life_of_an_account(self, kind: str) -> None:
        admin = Admin()
        path = f"/admin/{kind}s"
        body = {
            "id": "a.b@c",
            "budgets": [{"amount_usd": "3", "period": "week"}],
            "limits": {"parallel_requests": 2},
        }
        made = await admin("POST", path, body, expect=201)
        assert (made["object"], made["id"], made["budgets"][0]["amount_usd"]) == (kind, "a.b@c", "3")
        assert made["budgets"][0]["scope"] == scope_of(f"{kind}:a.b@c", "week", time.time())
        assert (await admin("POST", path, body, expect=409))["error"]["code"] == "account_exists"
        assert (await admin("GET", path))["data"] == [made] == [await admin("GET", f"{path}/a.b@c")]
        changed = await admin("PATCH", f"{path}/a.b@c", {"budgets": []})
        assert changed["budgets"] == []
        assert changed["limits"] == made["limits"]
        assert await admin("DELETE", f"{path}/a.b@c") == {"object": kind, "id": "a.b@c", "removed": True}
        assert (await admin("GET", path))["data"] == []
        assert admin.changes == 3

    @pytest.mark.parametrize("body", [{}, {"id": ""}, {"id": "a/b"}, {"id": "a", "name": "b"}, {"id": 3}])
    async def test_a_body_at_fault(self, body: Any) -> None:
        answer = await Admin()("POST", "/admin/teams", body, expect=400)
        assert answer["error"]["param"] in ("id", "name")


async def book(ledger: Ledger) -> None:
    now = time.time()
    entries = [
        ("k1", "ada", "search", ("x", "y"), "0.30", 0),
        ("k1", "ada", "search", ("y",), "0.02", 90_000),
    ]
    for i, (key_id, user, team, tags, cost, ago) in enumerate([*entries, (None, None, None, (), "1", 10)]):
        entry = episode_entry(f"e{i}", at=now - ago, cost=cost)
        entry = replace(entry, key_id=key_id, user=user, team=team, tags=tags)
        await ledger.book(entry, [call_entry(f"e{i}", "c", f"m{i}", at=now - ago, cost=cost)])


class TestSpend:
    @pytest.mark.parametrize(
        ("by", "rows"),
        [
            ("key", [(None, 1, "1"), ("k1", 2, "0.32")]),
            ("user", [(None, 1, "1"), ("ada", 2, "0.32")]),
            ("team", [(None, 1, "1"), ("search", 2, "0.32")]),
            ("tag", [(None, 1, "1"), ("y", 2, "0.32"), ("x", 1, "0.30")]),
            ("model", [("m2", 1, "1"), ("m0", 1, "0.30"), ("m1", 1, "0.02")]),
        ],
    )
    async def test_who_spent_what(self, by: str, rows: list[Any], tmp_path: Path) -> None:
        ledger = SqliteLedger(tmp_path / "books.sqlite")
        admin = Admin(ledger=ledger)
        await book(ledger)
        answer = await admin("GET", f"/admin/spend?by={by}")
        assert [(row[by], row["requests"], row["cost_usd"]) for row in answer["data"]] == rows
        second = await admin("GET", f"/admin/spend?by={by}&limit=1&offset=1")
        assert second["data"] == answer["data"][1:2]
        assert second["has_more"] == (len(rows) > 2)
        today = await admin("GET", f"/admin/spend?by={by}&since=1d")
        assert sum(Decimal(row["cost_usd"]) for row in today["data"]) >= Decimal("1.3")
        assert "0.32" not in {row["cost_usd"] for row in today["data"]}
        assert (await admin("GET", f"/admin/spend?by={by}&until={time.time() - 100_000}"))["data"] == []
        await ledger.aclose()

    @pytest.mark.parametrize(
        ("query", "param"),
        [
            ("by=colour", "by"),
            ("since=yesteryear", "since"),
            ("until=nan", "until"),
            ("offset=-1", "offset"),
            ("x=1", "x"),
        ],
    )
    async def test_a_query_at_fault(self, query: str, param: str) -> None:
        answer = await Admin()("GET", f"/admin/spend?{query}", expect=400)
        assert answer["error"]["param"] == param

    async def test_what_a_budget_has_left(self) -> None:
        admin = Admin()
        made = await admin("POST", "/admin/keys", FULL, expect=201)
        month, day = (budget["scope"] for budget in made["budgets"])
        await admin.ledger.book(episode_entry("e", cost="0.25"), [], [month, day])
        shown = await admin("GET", f"/admin/keys/{made['id']}")
        assert [(b["spent_usd"], b["left_usd"]) for b in shown["budgets"]] == [
            ("0.25", "10.25"),
            ("0.25", "0"),
        ]
        assert all(b["renews_at"] > time.time() for b in shown["budgets"])


async def test_every_change_is_a_line_without_secrets(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    admin = Admin(SqliteAccounts(tmp_path / "accounts.sqlite"))
    made = await admin("POST", "/admin/keys", FULL, expect=201)
    key_id = made["id"]
    await admin("PATCH", f"/admin/keys/{key_id}", {"name": "n", "tags": []})
    rotated = await admin("POST", f"/admin/keys/{key_id}/rotate", {"grace_s": 5})
    await admin("POST", "/admin/teams", {"id": "t"}, expect=201)
    await admin("PATCH", "/admin/teams/t", {"limits": {}})
    await admin("DELETE", "/admin/teams/t")
    await admin("DELETE", f"/admin/keys/{key_id}")
    await admin("GET", f"/admin/keys/{key_id}")
    await admin("POST", "/admin/keys", {"name": ""}, expect=400)
    lines = [record for record in caplog.records if record.name == "xrouter.audit"]
    assert [line.getMessage() for line in lines] == [
        "key created", "key changed", "key rotated", "team created", "team changed", "team removed", "key revoked",
    ]  # fmt: skip
    fields = [line.fields for line in lines]  # type: ignore[attr-defined]
    assert all(field["client"] == "127.0.0.9" and field["request_id"] == "req-1" for field in fields)
    assert fields[0]["key_id"] == key_id
    assert fields[1]["fields"] == ["name", "tags"]
    told = " ".join(str(record.__dict__) for record in caplog.records)
    for secret in (made["secret"], rotated["secret"], ADMIN_KEY):
        assert secret[4:] not in told
    await admin.store.aclose()
