"""Budgets hold whatever happens at once: the proof by many requests, random costs and a kill."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from accounts_kit import MODELS, NOW, account, budget, make_gate
from ledger_kit import episode_entry

from xrouter.accounts.gate import Gate
from xrouter.accounts.manage import create_key
from xrouter.accounts.memory import MemoryAccounts
from xrouter.accounts.sqlite import SqliteAccounts
from xrouter.errors import QuotaExceededError, RateLimitedError
from xrouter.ledger.ledger import Ledger
from xrouter.ledger.memory import MemoryLedger
from xrouter.ledger.sqlite import SqliteLedger
from xrouter.settings_tables.access import AccessSettings, Limits
from xrouter.state.memory import MemoryState
from xrouter.state.redis import RedisState
from xrouter.state.sqlite import SqliteState

TESTS = Path(__file__).parents[1]
WORST = Decimal("0.02")

KILLED = """
import asyncio, random, sys
from decimal import Decimal
from accounts_kit import MODELS, NOW, make_gate
from ledger_kit import episode_entry
from xrouter.accounts.sqlite import SqliteAccounts
from xrouter.ledger.sqlite import SqliteLedger

async def main(folder, secret):
    ledger = SqliteLedger(folder + "/books.sqlite")
    gate = make_gate(SqliteAccounts(folder + "/accounts.sqlite"), ledger=ledger)

    async def one(i):
        caller = await gate.identify(secret, NOW)
        admission = await gate.admit(caller, MODELS, worst_cost_usd=Decimal("0.02"), prompt_tokens=1, now=NOW)
        await asyncio.sleep(random.random() / 100)
        cost = Decimal(random.randrange(20_001)) / 1_000_000
        spent = await ledger.book(episode_entry(f"e{i}", cost=str(cost)), [], admission.scopes)
        print(f"e{i} {cost}", flush=True)
        await admission.settle(spent, 1)

    for start in range(0, 100_000, 16):
        await asyncio.gather(*(one(start + k) for k in range(16)))

asyncio.run(main(*sys.argv[1:]))
"""


def killed_after(lines: int, folder: Path, secret: str) -> list[list[str]]:
    """What a gateway under load had said when it was killed: (episode, cost) of each booking it knew of."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), secret],
        stdout=subprocess.PIPE,
        text=True,
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
    )
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().split() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    return acknowledged


async def spend(
    gate: Gate, ledger: Ledger, secret: str, number: str, chance: random.Random
) -> Decimal | None:
    """One request: what it cost, or None where the gate refused it."""
    await asyncio.sleep(chance.random() / 50)
    caller = await gate.identify(secret, NOW)
    try:
        admission = await gate.admit(caller, MODELS, worst_cost_usd=WORST, prompt_tokens=1, now=NOW)
    except QuotaExceededError:
        return None
    assert admission.max_cost_usd is not None
    await asyncio.sleep(chance.random() / 50)
    if chance.random() < 0.1:
        await admission.release()
        return Decimal(0)
    cost = admission.max_cost_usd * chance.choice([0, 1, 1, 1]) * Decimal(chance.randrange(900, 1001)) / 1000
    spent = await ledger.book(episode_entry(number, cost=f"{cost:f}"), [], admission.scopes)
    await asyncio.sleep(chance.random() / 50)
    await admission.settle(spent, 1)
    return cost


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shrink", [False, True], ids=["refuse", "shrink"])
async def test_200_requests_at_once_on_a_budget_of_50(seed: int, shrink: bool) -> None:
    """Two gateways with one state and one set of books; the team's budget is the tighter one."""
    chance = random.Random(seed)
    store, ledger, state = MemoryAccounts(), MemoryLedger(), MemoryState()
    limit = 50 * WORST
    await store.put_account(account("team", "search", budget(str(limit))))
    keys = [
        (await create_key(store, f"k{i}", NOW, team="search", budgets=(budget("0.7", "day"),))).secret
        for i in range(2)
    ]
    access = AccessSettings(shrink_to_budget=shrink)
    gates = [Gate(store, ledger, state, access, require_keys=True, request_timeout_s=600.0) for _ in range(2)]
    costs = await asyncio.gather(
        *(spend(gates[i % 2], ledger, keys[i // 2 % 2], f"e{i}", chance) for i in range(200))
    )
    served = [cost for cost in costs if cost is not None]
    (team,) = await ledger.spent(["team:search/2026-11"])
    assert team.cost_usd == sum(served) == sum(entry.cost_usd for entry in ledger.episodes)
    assert team.cost_usd <= limit
    for i in range(2):
        key = (await store.keys(name=f"k{i}"))[0]
        (day,) = await ledger.spent([f"key:{key.id}/2026-11-18"])
        assert day.cost_usd <= Decimal("0.7")
    # A gateway that reads the books between another's booking and settling counts that request twice for a moment.
    assert len(served) >= 40, "what fits is served"
    assert None in costs, "the budget was put to the test"


STATES = {
    "memory": lambda request, folder: MemoryState(),
    "sqlite": lambda request, folder: SqliteState(folder / "state.sqlite"),
    "redis": lambda request, folder: RedisState(
        request.getfixturevalue("redis_server").url, prefix=folder.name
    ),
}


@pytest.mark.parametrize("kind", STATES)
async def test_every_kind_of_state_holds_the_line(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """40 requests by two gateways on a budget of 10 worst cases, at most 4 under way at once."""
    states = [STATES[kind](request, tmp_path)]
    states.append(states[0] if kind == "memory" else STATES[kind](request, tmp_path))
    store, ledger = MemoryAccounts(), MemoryLedger()
    limits = Limits(requests_per_minute=1000, tokens_per_minute=1000, parallel_requests=4)
    made = await create_key(store, "k", NOW, budgets=(budget(str(10 * WORST)),), limits=limits)
    gates = [make_gate(store, ledger=ledger, state=state) for state in states]
    under_way, most, served, refused = 0, 0, 0, 0

    async def one(i: int) -> None:
        nonlocal under_way, most, served, refused
        gate = gates[i % 2]
        caller = await gate.identify(made.secret, NOW)
        while True:
            try:
                admission = await gate.admit(caller, MODELS, worst_cost_usd=WORST, prompt_tokens=1, now=NOW)
                break
            except RateLimitedError:
                await asyncio.sleep(0.01)
            except QuotaExceededError:
                refused += 1
                return
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        served += 1
        spent = await ledger.book(episode_entry(f"e{i}", cost=f"{WORST:f}"), [], admission.scopes)
        await admission.settle(spent, 1)

    await asyncio.gather(*(one(i) for i in range(40)))
    (total,) = await ledger.spent([f"key:{made.key.id}/2026-11"])
    assert total.cost_usd == 10 * WORST
    assert (served, refused) == (10, 30)
    assert most <= 4
    for state in dict.fromkeys(states):
        await state.aclose()


async def test_requests_all_at_their_worst_case_fill_the_budget_to_the_last_cent() -> None:
    store, ledger = MemoryAccounts(), MemoryLedger()
    secret = (await create_key(store, "k", NOW, budgets=(budget("1"),))).secret
    gate = make_gate(store, ledger=ledger)

    async def one(i: int) -> bool:
        caller = await gate.identify(secret, NOW)
        try:
            admission = await gate.admit(caller, MODELS, worst_cost_usd=WORST, prompt_tokens=1, now=NOW)
        except QuotaExceededError:
            return False
        await asyncio.sleep(0)
        await admission.settle(
            await ledger.book(episode_entry(f"e{i}", cost=str(WORST)), [], admission.scopes), 1
        )
        return True

    assert sum(await asyncio.gather(*(one(i) for i in range(200)))) == 50
    (spent,) = await ledger.spent([f"key:{(await store.keys())[0].id}/2026-11"])
    assert spent.cost_usd == 1


async def test_a_kill_leaves_what_was_spent_equal_to_the_rows(tmp_path: Path) -> None:
    """What had been set aside is gone with the process; what was booked counts against the budget of the next."""
    store = SqliteAccounts(tmp_path / "accounts.sqlite")
    made = await create_key(store, "k", NOW, budgets=(budget("10"),))
    acknowledged = killed_after(60, tmp_path, made.secret)

    ledger = SqliteLedger(tmp_path / "books.sqlite")
    scope = f"key:{made.key.id}/2026-11"
    (spent,) = await ledger.spent([scope])
    with closing(sqlite3.connect(ledger.path)) as connection:
        rows = connection.execute("SELECT episode_id, cost_usd FROM episodes").fetchall()
    assert spent.cost_usd == sum(Decimal(cost) for _, cost in rows)
    assert spent.version == len(rows) >= 60
    assert {name: Decimal(cost) for name, cost in acknowledged}.items() <= {
        name: Decimal(cost) for name, cost in rows
    }.items()

    gate = make_gate(store, ledger=ledger)
    caller = await gate.identify(made.secret, NOW)
    left = 10 - spent.cost_usd
    with pytest.raises(QuotaExceededError):
        await gate.admit(caller, MODELS, worst_cost_usd=left + WORST, prompt_tokens=1, now=NOW)
    await gate.admit(caller, MODELS, worst_cost_usd=left, prompt_tokens=1, now=NOW)
    await ledger.aclose()
    await store.aclose()
