"""One battery over every kind of shared state: whatever is in `xrouter.state` and sets amounts aside.

A new one is found by itself; it needs one entry in MAKERS.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import math
import pkgutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import xrouter.state
from xrouter.errors import StateError
from xrouter.ledger.ledger import Spent
from xrouter.state.memory import MemoryState
from xrouter.state.redis import RedisState
from xrouter.state.sqlite import SqliteState
from xrouter.state.state import Hold, State, Take

DOLLAR = 10**12


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Setting:
    """A state and how time passes for it."""

    state: Any
    clock: Clock | None

    async def wait(self, seconds: float) -> None:
        if self.clock is None:
            await asyncio.sleep(seconds)
        else:
            self.clock.now += seconds


def in_memory(request: pytest.FixtureRequest, folder: Path) -> Setting:
    clock = Clock()
    return Setting(MemoryState(clock=clock), clock)


def in_a_file(request: pytest.FixtureRequest, folder: Path) -> Setting:
    clock = Clock()
    return Setting(SqliteState(folder / "state.sqlite", clock=clock), clock)


def in_redis(request: pytest.FixtureRequest, folder: Path) -> Setting:
    server = request.getfixturevalue("redis_server")
    return Setting(RedisState(server.url, prefix=folder.name), None)


MAKERS: dict[type, Callable[[pytest.FixtureRequest, Path], Setting]] = {
    MemoryState: in_memory,
    RedisState: in_redis,
    SqliteState: in_a_file,
}


def kinds() -> list[type]:
    found = set()
    for module in pkgutil.iter_modules(xrouter.state.__path__, "xrouter.state."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if kind is not State and kind.__module__ == module.name and hasattr(kind, "reserve"):
                found.add(kind)
    return sorted(found, key=lambda kind: kind.__name__)


@pytest.fixture(params=kinds(), ids=lambda kind: kind.__name__)
async def setting(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Setting]:
    made = MAKERS[request.param](request, tmp_path)
    yield made
    await made.state.aclose()


def hold(amount: int, limit: int, scope: str = "key:a", spent: str = "0", version: int = 0) -> Hold:
    return Hold(Spent(scope, Decimal(spent), version), amount, limit)


async def test_speaks_the_protocol(setting: Setting) -> None:
    assert isinstance(setting.state, State)


async def test_values_are_kept_until_they_lapse(setting: Setting) -> None:
    state = setting.state
    assert await state.get("a") is None
    await state.put("a", b"\x00\xff one", ttl_s=0.3)
    await state.put("b", b"", ttl_s=60)
    assert (await state.get("a"), await state.get("b")) == (b"\x00\xff one", b"")
    await state.put("a", b"two", ttl_s=0.3)
    assert await state.get("a") == b"two"
    await setting.wait(0.4)
    assert (await state.get("a"), await state.get("b")) == (None, b"")
    await state.delete("b")
    await state.delete("never there")
    assert await state.get("b") is None


async def test_keys_may_be_any_text(setting: Setting) -> None:
    key = "sess/ion: {ü} * 'x'"
    await setting.state.put(key, b"1", ttl_s=60)
    assert await setting.state.get(key) == b"1"
    assert await setting.state.get(key + " ") is None


async def test_a_bucket_empties_and_fills_again(setting: Setting) -> None:
    state, take = setting.state, Take("b", 1, capacity=2, per_s=5)
    assert await state.take([take]) is None
    assert await state.take([take]) is None
    index, wait_s = await state.take([take])
    assert index == 0
    assert 0 < wait_s <= 0.2
    await setting.wait(wait_s + 0.001)
    assert await state.take([take]) is None
    assert await state.take([take]) is not None
    await setting.wait(0.5)
    assert await state.take([Take("b", 2, 2, 5)]) is None
    assert await state.take([take]) is not None, "a bucket held more than its capacity"


async def test_taking_is_all_or_nothing_and_names_the_longest_wait(setting: Setting) -> None:
    state = setting.state
    requests, tokens = Take("requests", 1, 1, 0.01), Take("tokens", 80, 100, 0.1)
    assert await state.take([requests, tokens]) is None
    index, wait_s = await state.take([requests, tokens])
    assert index == 1
    assert wait_s == pytest.approx(600, rel=0.02)
    assert await state.take([Take("tokens", 20, 100, 0.1)]) is None, "a refused take took something"
    assert await state.take([Take("other", 1, 1, 1), requests]) == (1, pytest.approx(100, rel=0.02))
    assert await state.take([Take("other", 1, 1, 1)]) is None


async def test_more_than_a_bucket_holds_can_never_be_had(setting: Setting) -> None:
    assert await setting.state.take([Take("b", 3, 2, 5)]) == (0, math.inf)
    await setting.state.take([Take("still", 1, 1, 0)])
    assert await setting.state.take([Take("still", 1, 1, 0)]) == (0, math.inf)


async def test_a_bucket_named_twice_pays_twice(setting: Setting) -> None:
    once = Take("b", 1, 2, 0.001)
    assert await setting.state.take([once, once]) is None
    assert await setting.state.take([once]) is not None
    assert (await setting.state.take([once, once]))[0] == 1


async def test_what_was_not_used_is_given_back_up_to_the_capacity(setting: Setting) -> None:
    state = setting.state
    await state.take([Take("b", 90, 100, 0.001)])
    await state.give_back([Take("b", 50, 100, 0.001)])
    assert await state.take([Take("b", 60, 100, 0.001)]) is None
    await state.give_back([Take("b", 1000, 100, 0.001)])
    assert await state.take([Take("b", 100, 100, 0.001)]) is None
    assert await state.take([Take("b", 1, 100, 0.001)]) is not None


async def test_giving_back_less_than_nothing_makes_debts(setting: Setting) -> None:
    state = setting.state
    await state.give_back([Take("b", -150, 100, 100)])
    index, wait_s = await state.take([Take("b", 1, 100, 100)])
    assert (index, wait_s) == (0, pytest.approx(0.51, abs=0.05))


async def test_concurrent_takes_never_take_more_than_there_is(setting: Setting) -> None:
    take = Take("b", 1, 10, 0.001)
    results = await asyncio.gather(*(setting.state.take([take]) for _ in range(40)))
    assert results.count(None) == 10


async def test_reservations_fill_a_budget_to_the_last_picodollar(setting: Setting) -> None:
    state = setting.state
    assert await state.reserve("r1", [hold(DOLLAR - 1, DOLLAR)], ttl_s=60) is None
    assert await state.reserve("r2", [hold(2, DOLLAR)], ttl_s=60) == 0
    assert await state.reserve("r3", [hold(1, DOLLAR)], ttl_s=60) is None
    assert await state.reserve("r4", [hold(1, DOLLAR)], ttl_s=60) == 0
    assert await state.reserve("r5", [hold(0, DOLLAR)], ttl_s=60) is None


@pytest.mark.parametrize("dollars", [9_007, 1_000_000, 123_456_789_012])
async def test_large_budgets_are_exact(setting: Setting, dollars: int) -> None:
    state, limit = setting.state, dollars * DOLLAR
    spent = Decimal(dollars) - Decimal("0.000000000003")
    assert await state.reserve("r1", [hold(4, limit, spent=f"{spent:f}", version=1)], ttl_s=60) == 0
    assert await state.reserve("r2", [hold(2, limit, spent=f"{spent:f}", version=1)], ttl_s=60) is None
    assert await state.reserve("r3", [hold(2, limit, spent=f"{spent:f}", version=1)], ttl_s=60) == 0
    assert await state.reserve("r4", [hold(1, limit, spent=f"{spent:f}", version=1)], ttl_s=60) is None
    assert await state.reserve("r5", [hold(limit - 1, limit, "fresh")], ttl_s=60) is None
    assert await state.reserve("r6", [hold(2, limit, "fresh")], ttl_s=60) == 0
    await state.settle("r5", [Spent("fresh", Decimal(dollars) - Decimal("0.000000000001"), 1)])
    assert await state.reserve("r7", [hold(2, limit, "fresh")], ttl_s=60) == 0
    assert await state.reserve("r8", [hold(1, limit, "fresh")], ttl_s=60) is None


async def test_what_is_finer_than_a_picodollar_counts_as_one(setting: Setting) -> None:
    spent = "0.9999999999991"
    assert await setting.state.reserve("r", [hold(1, DOLLAR, spent=spent, version=1)], ttl_s=60) == 0
    assert await setting.state.reserve("r", [hold(0, DOLLAR, spent=spent, version=1)], ttl_s=60) is None


async def test_all_holds_or_none(setting: Setting) -> None:
    state = setting.state
    holds = [hold(5, 10, "key"), hold(5, 4, "team")]
    assert await state.reserve("r1", holds, ttl_s=60) == 1
    assert await state.reserve("r2", [hold(10, 10, "key")], ttl_s=60) is None, "a refused hold was set aside"
    assert await state.reserve("r3", [hold(1, 10, "key"), hold(9, 4, "team")], ttl_s=60) == 0


async def test_a_scope_held_twice_pays_twice(setting: Setting) -> None:
    assert await setting.state.reserve("r1", [hold(6, 10), hold(6, 10)], ttl_s=60) == 1
    assert await setting.state.reserve("r2", [hold(5, 10), hold(5, 10)], ttl_s=60) is None
    assert await setting.state.reserve("r3", [hold(1, 10)], ttl_s=60) == 0
    await setting.state.settle("r2", [])
    assert await setting.state.reserve("r3", [hold(10, 10)], ttl_s=60) is None


async def test_settling_makes_room_and_counts_what_was_spent(setting: Setting) -> None:
    state = setting.state
    await state.reserve("r1", [hold(8 * DOLLAR, 10 * DOLLAR)], ttl_s=60)
    await state.settle("r1", [Spent("key:a", Decimal(3), 1)])
    assert await state.reserve("r2", [hold(7 * DOLLAR + 1, 10 * DOLLAR)], ttl_s=60) == 0
    assert await state.reserve("r2", [hold(7 * DOLLAR, 10 * DOLLAR)], ttl_s=60) is None
    await state.settle("r1", [Spent("key:a", Decimal(3), 1)])
    await state.settle("r2", [])
    await state.settle("r2", [])
    assert await state.reserve("r3", [hold(7 * DOLLAR, 10 * DOLLAR)], ttl_s=60) is None
    assert await state.reserve("r4", [hold(1, 10 * DOLLAR)], ttl_s=60) == 0, "settling twice made room twice"


async def test_the_newest_version_of_what_was_spent_counts(setting: Setting) -> None:
    state = setting.state
    await state.settle("of another gateway", [Spent("key:a", Decimal(9), 7)])
    assert await state.reserve("r1", [hold(2 * DOLLAR, 10 * DOLLAR, spent="1", version=3)], ttl_s=60) == 0
    await state.settle("late", [Spent("key:a", Decimal(2), 6)])
    assert await state.reserve("r1", [hold(2 * DOLLAR, 10 * DOLLAR)], ttl_s=60) == 0
    assert await state.reserve("r1", [hold(DOLLAR, 10 * DOLLAR, spent="9.5", version=8)], ttl_s=60) == 0
    assert await state.reserve("r1", [hold(DOLLAR // 2, 10 * DOLLAR)], ttl_s=60) is None


async def test_a_reservation_that_nobody_settles_lapses(setting: Setting) -> None:
    state = setting.state
    await state.reserve("r1", [hold(10, 10), hold(4, 10, "team")], ttl_s=0.3)
    await state.reserve("r2", [hold(4, 10, "team")], ttl_s=60)
    assert await state.reserve("r3", [hold(1, 10)], ttl_s=60) == 0
    await setting.wait(0.4)
    assert await state.reserve("r3", [hold(10, 10), hold(6, 10, "team")], ttl_s=60) is None
    await state.settle("r1", [Spent("key:a", Decimal(0), 1)])
    assert await state.reserve("r4", [hold(1, 10)], ttl_s=60) == 0, "a lapsed reservation was released again"


async def test_reserving_again_replaces_what_was_reserved(setting: Setting) -> None:
    state = setting.state
    assert await state.reserve("r1", [hold(8, 10)], ttl_s=0.3) is None
    assert await state.reserve("r1", [hold(11, 10)], ttl_s=60) == 0
    assert await state.reserve("r2", [hold(3, 10)], ttl_s=60) == 0, "a refused change dropped what was held"
    assert await state.reserve("r1", [hold(9, 10)], ttl_s=60) is None
    await setting.wait(0.4)
    assert await state.reserve("r2", [hold(2, 10)], ttl_s=60) == 0, (
        "the first lapse ended the second reservation"
    )
    assert await state.reserve("r2", [hold(1, 10)], ttl_s=60) is None


async def test_concurrent_reservations_never_overspend(setting: Setting) -> None:
    results = await asyncio.gather(
        *(setting.state.reserve(f"r{i}", [hold(3, 100), hold(1, 1000, "team")], ttl_s=60) for i in range(60))
    )
    assert results.count(None) == 33
    assert await setting.state.reserve("team", [hold(967, 1000, "team")], ttl_s=60) is None
    assert await setting.state.reserve("more", [hold(1, 1000, "team")], ttl_s=60) == 0


async def test_nothing_asked_is_granted(setting: Setting) -> None:
    assert await setting.state.take([]) is None
    assert await setting.state.reserve("r", [], ttl_s=60) is None
    await setting.state.give_back([])
    await setting.state.settle("r", [])


async def test_closed_state_says_so(setting: Setting) -> None:
    await setting.state.aclose()
    await setting.state.aclose()
    with pytest.raises(StateError, match="closed"):
        await setting.state.get("a")
    with pytest.raises(StateError, match="closed"):
        await setting.state.reserve("r", [hold(1, 1)], ttl_s=1)
