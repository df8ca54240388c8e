"""One battery over every ledger: whatever is in `xrouter.ledger` and keeps books.

A new ledger is found by itself; it needs one entry in MAKERS.
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
from ledger_kit import call_entry, episode_entry

import xrouter.ledger
from xrouter.errors import LedgerError
from xrouter.ledger.ledger import Ledger, Spent
from xrouter.ledger.memory import MemoryLedger
from xrouter.ledger.postgres import PostgresLedger
from xrouter.ledger.spend import SPEND_BY, Spend, SpendBy, spend_of
from xrouter.ledger.sqlite import SqliteLedger
from xrouter.ledger.totals import totals_of
from xrouter.messages import Usage

MAKERS: dict[type, Callable[[pytest.FixtureRequest, Path], Any]] = {
    MemoryLedger: lambda request, folder: MemoryLedger(),
    PostgresLedger: lambda request, folder: PostgresLedger(
        request.getfixturevalue("postgres_server").emptied()
    ),
    SqliteLedger: lambda request, folder: SqliteLedger(folder / "books.sqlite"),
}


def ledgers() -> list[type]:
    found = set()
    for module in pkgutil.iter_modules(xrouter.ledger.__path__, "xrouter.ledger."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if kind is not Ledger and kind.__module__ == module.name and hasattr(kind, "book"):
                found.add(kind)
    return sorted(found, key=lambda kind: kind.__name__)


@pytest.fixture(params=ledgers(), ids=lambda kind: kind.__name__)
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    made = MAKERS[request.param](request, tmp_path)
    yield made
    await made.aclose()


async def test_speaks_the_protocol(ledger: Any) -> None:
    assert isinstance(ledger, Ledger)


async def test_empty_books_add_up_to_nothing(ledger: Any) -> None:
    totals = ledger.totals()
    assert (totals.requests, totals.calls, totals.spend_usd, totals.simulated_share) == (0, 0, 0, 0)
    assert (totals.models, totals.routes, totals.savings_share) == ((), (), None)


async def test_totals_are_exact_and_complete(ledger: Any) -> None:
    episodes = [
        episode_entry("e1", at=10, route="a+b", cost="0.1", reference="0.7", simulated=True),
        episode_entry("e2", at=20, route="a", cost="0.2", reference="0.00000000000000000001"),
        episode_entry("e3", at=30, route="a", cost="123456789012345.1", error="all failed"),
    ]
    calls = [
        [
            call_entry("e1", "c1", at=10, cost="0.05"),
            call_entry("e1", "c2", "b", at=10, cost="0.05", error="503"),
        ],
        [call_entry("e2", "c1", at=20, cost="0.2", usage=Usage(5, 4, 3, 2, True))],
        [call_entry("e3", "p1", "judge", at=30, cost="123456789012345.1", kind="policy")],
    ]
    for episode, its in zip(episodes, calls, strict=True):
        await ledger.book(episode, its)
    totals = ledger.totals()
    assert totals == totals_of(episodes, [call for its in calls for call in its])
    assert totals.spend_usd == Decimal("123456789012345.4")
    assert totals.reference_usd == Decimal("0.72000000000000000001")
    assert totals.savings_usd == Decimal("-123456789012344.67999999999999999999")
    assert (totals.requests, totals.failed_requests, totals.calls, totals.failed_calls) == (3, 1, 4, 1)
    assert [(m.model, m.calls, m.failed_calls, m.cost_usd, m.share) for m in totals.models] == [
        ("judge", 1, 0, Decimal("123456789012345.1"), 0.25),
        ("a", 2, 0, Decimal("0.25"), 0.5),
        ("b", 1, 1, Decimal("0.05"), 0.25),
    ]
    assert [(r.route, r.requests) for r in totals.routes] == [("a", 2), ("a+b", 1)]
    assert totals.simulated_share == pytest.approx(1 / 3)
    assert totals.usage.estimated


async def test_a_span_includes_its_start_and_not_its_end(ledger: Any) -> None:
    for i in range(4):
        await ledger.book(episode_entry(f"e{i}", at=i), [call_entry(f"e{i}", "c1", at=i)])
    assert ledger.totals(since=1, until=3).requests == 2
    assert ledger.totals(since=1, until=3).calls == 2
    assert ledger.totals(since=3).requests == 1
    assert ledger.totals(until=0).requests == 0


async def test_a_tenth_added_a_thousand_times_is_a_hundred(ledger: Any) -> None:
    await asyncio.gather(
        *(
            ledger.book(episode_entry(f"e{i}", cost="0.1"), [call_entry(f"e{i}", "c1", cost="0.1")])
            for i in range(1000)
        )
    )
    assert ledger.totals().spend_usd == 100
    assert ledger.totals().models[0].cost_usd == 100


async def test_an_episode_is_booked_once(ledger: Any) -> None:
    await ledger.book(episode_entry("e1", cost="1"), [])
    with pytest.raises(LedgerError, match="e1"):
        await ledger.book(episode_entry("e1", cost="2"), [call_entry("e1", "c1")])
    totals = ledger.totals()
    assert (totals.requests, totals.calls, totals.spend_usd) == (1, 0, 1)


async def test_all_rows_of_an_episode_or_none(ledger: Any) -> None:
    twice = [call_entry("e1", "c1"), call_entry("e1", "c1")]
    results = await asyncio.gather(
        ledger.book(episode_entry("e0"), [call_entry("e0", "c1")]),
        ledger.book(episode_entry("e1"), twice),
        ledger.book(episode_entry("e2"), [call_entry("e2", "c1")]),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [list, LedgerError, list]
    assert (ledger.totals().requests, ledger.totals().calls) == (2, 2)


async def test_only_the_most_frequent_routes_are_listed(ledger: Any) -> None:
    for i in range(6):
        await ledger.book(episode_entry(f"e{i}", route=f"r{i % 4}"), [])
    assert [route.route for route in ledger.totals(top_routes=3).routes] == ["r0", "r1", "r2"]


async def test_closed_books_take_nothing_more(ledger: Any) -> None:
    await ledger.aclose()
    await ledger.aclose()
    with pytest.raises(LedgerError, match="closed"):
        await ledger.book(episode_entry("e1"), [])


async def test_what_a_scope_has_spent_adds_up_exactly_and_is_numbered(ledger: Any) -> None:
    await ledger.book(episode_entry("e1", cost="0.1"), [], ["key:a/2026-11", "team:x"])
    spent = await ledger.book(episode_entry("e2", cost="0.2"), [], ["team:x", "key:b/2026-11"])
    assert list(spent) == [Spent("team:x", Decimal("0.3"), 2), Spent("key:b/2026-11", Decimal("0.2"), 1)]
    assert list(await ledger.spent(["key:a/2026-11", "key:c"])) == [
        Spent("key:a/2026-11", Decimal("0.1"), 1),
        Spent("key:c"),
    ]


async def test_a_refused_booking_charges_nobody(ledger: Any) -> None:
    await ledger.book(episode_entry("e1"), [], ["key:a"])
    with pytest.raises(LedgerError):
        await ledger.book(episode_entry("e1"), [], ["key:a"])
    assert list(await ledger.spent(["key:a"])) == [Spent("key:a", Decimal("0.01"), 1)]


async def test_bookings_at_once_are_numbered_apart(
    ledger: Any,
) -> None:
    await ledger.book(episode_entry("e0", cost="1"), [], ["a"])
    spent = await asyncio.gather(
        *(ledger.book(episode_entry(f"b{i}", cost="0.1"), [], ["a", "b"]) for i in range(50))
    )
    for place, first in ((0, 1), (1, 0)):
        totals = sorted((its[place] for its in spent), key=lambda total: total.version)
        assert [total.version for total in totals] == list(range(1 + first, 51 + first))
        assert [total.cost_usd for total in totals] == [
            first + (total.version - first) * Decimal("0.1") for total in totals
        ]


async def test_no_text_of_a_caller_keeps_its_cost_out_of_the_books(ledger: Any) -> None:
    bad = "a\x00b\ud800c\udfff \U0001f600 \\ '"
    entry = replace(
        episode_entry("e1"), user=bad, tags=(bad,), session=bad, trace_id=bad, error=bad, degraded=bad, key_id=bad,
        team=bad,
    )  # fmt: skip
    await ledger.book(entry, [call_entry("e1", "c1", error=bad)], ["key:a"])
    assert (ledger.totals().spend_usd, ledger.totals().failed_calls) == (Decimal("0.01"), 1)
    assert [spend.requests for spend in ledger.spend("tag")] == [1]


async def test_who_asked_is_kept(ledger: Any) -> None:
    entry = replace(
        episode_entry("e1"), key_id="k1", user="ann", team="core", tags=("a", "b"), session="s", trace_id="t",
        cache="exact", saved_usd=Decimal("0.5"),
    )  # fmt: skip
    await ledger.book(entry, [])
    if hasattr(ledger, "entries"):
        assert ledger.entries("e1") == (entry, [])
    else:
        assert ledger.episodes == [entry]


DEAR, DEARER = Decimal("123456789012345.1"), Decimal("123456789012345.10000000000000000001")
SPENDING: dict[SpendBy, list[Spend]] = {
    "key": [Spend(None, 1, DEAR), Spend("k1", 2, Decimal("0.3")), Spend("k2", 1, Decimal("1E-20"))],
    "user": [Spend(None, 1, DEAR), Spend("ada", 2, Decimal("0.3")), Spend("bob", 1, Decimal("1E-20"))],
    "team": [Spend(None, 2, DEARER), Spend("search", 2, Decimal("0.3"))],
    "tag": [Spend(None, 2, DEARER), Spend("b", 2, Decimal("0.3")), Spend("a", 1, Decimal("0.1"))],
    "model": [Spend("b", 2, DEAR + Decimal("0.2")), Spend("a", 2, Decimal("0.10000000000000000001"))],
}


@pytest.mark.parametrize("by", SPEND_BY)
async def test_spending_is_exact_whoever_it_is_asked_of(ledger: Any, by: SpendBy) -> None:
    assert ledger.spend(by) == []
    given: list[dict[str, Any]] = [
        {"key_id": "k1", "user": "ada", "team": "search", "tags": ("a", "b"), "cost_usd": Decimal("0.1")},
        {"key_id": "k1", "user": "ada", "team": "search", "tags": ("b",), "cost_usd": Decimal("0.2")},
        {"key_id": "k2", "user": "bob", "cost_usd": Decimal("1E-20")},
        {"cost_usd": Decimal("123456789012345.1"), "tags": ()},
    ]
    episodes = [replace(episode_entry(f"e{i}", at=i), **fields) for i, fields in enumerate(given)]
    calls = [
        call_entry(f"e{i}", "c1", "ab"[i % 2], at=i, cost=str(e.cost_usd)) for i, e in enumerate(episodes)
    ]
    for episode, call in zip(episodes, calls, strict=True):
        await ledger.book(episode, [call])
    assert ledger.spend(by) == spend_of(episodes, calls, by) == SPENDING[by]
    assert ledger.spend(by, 1, 3) == spend_of(episodes[1:3], calls[1:3], by)
