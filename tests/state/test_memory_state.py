"""What only state in memory can show: that it does not grow."""

from __future__ import annotations

from decimal import Decimal

from xrouter.ledger.ledger import Spent
from xrouter.state.limits import SCOPE_TTL_S
from xrouter.state.memory import MemoryState
from xrouter.state.state import Hold, Take


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_the_value_used_longest_ago_goes_first() -> None:
    state = MemoryState(max_value_bytes=10)
    await state.put("a", b"12345", ttl_s=60)
    await state.put("b", b"12345", ttl_s=60)
    await state.get("a")
    await state.put("c", b"1", ttl_s=60)
    assert (await state.get("a"), await state.get("b"), await state.get("c")) == (b"12345", None, b"1")
    await state.put("big", b"12345678901", ttl_s=60)
    assert await state.get("big") is None


async def test_buckets_that_are_full_and_scopes_of_last_month_are_forgotten() -> None:
    clock = Clock()
    state = MemoryState(clock=clock)
    for i in range(1000):
        await state.take([Take(f"b{i}", 1, 10, 1)])
        await state.settle(f"r{i}", [Spent(f"key:{i}", Decimal(1), 1)])
    assert (len(state._buckets), len(state._scopes)) == (1000, 1000)
    await state.reserve("open", [Hold(Spent("held"), 1, 10)], ttl_s=2 * SCOPE_TTL_S)
    clock.now = SCOPE_TTL_S + 1
    for _ in range(1000):
        await state.get("x")
    assert (len(state._buckets), list(state._scopes)) == (0, ["held"])


async def test_settled_reservations_leave_nothing_behind() -> None:
    state = MemoryState(clock=Clock())
    for i in range(5000):
        await state.reserve(f"r{i}", [Hold(Spent("key"), 1, 10)], ttl_s=900)
        await state.settle(f"r{i}", [])
    assert len(state._lapses) < 100
    assert not state._reservations
