"""A run of several processes: one purse, one memory, and what a process that is killed leaves behind."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from live_world_kit import ONE_USD, ask, live_world, result, start, worst_usd
from upstream import MockUpstream, hang, ok

from xrouter.errors import RunBudgetError
from xrouter.tasks.live_store import LiveStore
from xrouter.tasks.live_work import NoRoom


async def test_two_processes_never_overspend_together(mock_upstream: MockUpstream, tmp_path: Path) -> None:
    """Each answer costs nearly its worst, so that a race of two reservations would go beyond the limit."""
    mock_upstream.default = ok("ok", usage={"prompt_tokens": 11, "completion_tokens": 1000}, delay_s=0.005)
    cost, limit = Decimal("0.002011"), Decimal("0.03")
    path = tmp_path / "live.sqlite"
    processes = [
        start(mock_upstream.base_url, path, str(limit), [f"{name}{i}?" for i in range(30)])
        for name in ("a", "b")
    ]
    results = [await asyncio.to_thread(result, process) for process in processes]
    made = len(mock_upstream.requests)
    assert made * cost <= limit < (made + 2) * cost, "neither overspent nor stopped early"
    assert sum(len(found["answers"]) for found in results) == made
    assert {error for found in results for error in found["errors"].values()} == {"RunBudgetError"}
    assert all(found["errors"] for found in results)

    more = await asyncio.to_thread(
        result, start(mock_upstream.base_url, path, "1", [f"a{i}?" for i in range(30)])
    )
    assert len(more["answers"]) == 30
    assert more["errors"] == {}
    assert max(Counter(r.body["messages"][0]["content"] for r in mock_upstream.requests).values()) == 1


async def test_two_processes_pay_once_for_equal_calls(mock_upstream: MockUpstream, tmp_path: Path) -> None:
    mock_upstream.default = ok("ok", delay_s=0.2)
    questions = [f"How many is {i}?" for i in range(20)]
    processes = [
        start(mock_upstream.base_url, tmp_path / "live.sqlite", "1", questions, max_concurrency_per_model=4)
        for _ in range(2)
    ]
    results = [await asyncio.to_thread(result, process) for process in processes]
    assert [len(found["answers"]) for found in results] == [20, 20]
    assert len(mock_upstream.requests) == 20
    assert max(found["figures"]["world/paid_usd"] for found in results) == pytest.approx(float(20 * ONE_USD))


async def test_what_a_killed_process_had_set_aside_counts_as_spent(
    mock_upstream: MockUpstream, tmp_path: Path
) -> None:
    mock_upstream.default = hang()
    path = tmp_path / "live.sqlite"
    process = start(mock_upstream.base_url, path, "1", ["How many?", "How few?"])
    await mock_upstream.wait_requests(2)
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.wait)
    assert process.stdout is not None
    process.stdout.close()

    mock_upstream.default = ok("42")
    world = live_world(mock_upstream.base_url, path)
    lost = worst_usd(world, "How many?") + worst_usd(world, "How few?")
    assert world.figures()["world/set_aside_usd"] == pytest.approx(float(lost))
    assert (await ask(world, "How many?")).text == "42", "its claim on an answer holds nobody up"
    spending = await world._store.spending()
    assert (spending.spent_usd, spending.set_aside_usd) == (ONE_USD, lost)
    await world.aclose()

    tight = live_world(mock_upstream.base_url, path, str(lost + ONE_USD + Decimal("0.000001")))
    async with asyncio.timeout(5):
        with pytest.raises(RunBudgetError, match="set aside for calls whose end is not known"):
            await ask(tight, "How old?")
    assert (await ask(tight, "How many?")).text == "42"
    await tight.aclose()


async def test_a_call_waits_for_another_hosts_process_until_its_lease_is_over(tmp_path: Path) -> None:
    now = 1000.0
    store = LiveStore(tmp_path / "live.sqlite", clock=lambda: now)
    taken = await store.set_aside("small", Decimal(1), Decimal(1), 60)
    await store._do(lambda connection, _: connection.execute("UPDATE set_aside SET host = 'elsewhere'"))
    assert isinstance(taken, int)
    found = await store.set_aside("small", Decimal(1), Decimal(1), 60)
    assert isinstance(found, NoRoom)
    assert found.may_come
    now = 1061.0
    found = await store.set_aside("small", Decimal(1), Decimal(1), 60)
    assert isinstance(found, NoRoom)
    assert not found.may_come
    late = await store.settle(taken, Decimal("0.4"))
    assert (late.spent_usd, late.set_aside_usd) == (Decimal("0.4"), Decimal(0)), (
        "whoever comes late is still heard"
    )
    assert isinstance(await store.set_aside("small", Decimal("0.6"), Decimal(1), 60), int)
    await store.aclose()


async def test_a_claim_of_another_host_lasts_as_long_as_its_lease(tmp_path: Path) -> None:
    now = 1000.0
    store = LiveStore(tmp_path / "live.sqlite", clock=lambda: now)
    assert await store.claim(b"k", 0, 60) is True
    await store._do(lambda connection, _: connection.execute("UPDATE claims SET host = 'elsewhere'"))
    assert await store.claim(b"k", 0, 60) is False
    now = 1061.0
    assert await store.claim(b"k", 0, 60) is True
    await store.release(b"k", 0, "first")
    await store.release(b"k", 0, "second")
    assert await store.claim(b"k", 0, 60) == "first", "an answer stays what it was"
    await store.aclose()


async def test_amounts_are_exact(tmp_path: Path) -> None:
    store = LiveStore(tmp_path / "live.sqlite")
    limit = Decimal("1000000000")
    for usd in ("999999999.999999999999", "0.000000000000000001"):
        number = await store.set_aside("small", Decimal(usd), limit, 60)
        assert isinstance(number, int)
        spending = await store.settle(number, Decimal(usd))
    assert spending.spent_usd == Decimal("999999999.999999999999000001")
    assert await store.settle(number, Decimal(1)) == spending, "a call is settled once"
    await store.aclose()
