"""Two gateways, as on two hosts, with one PostgreSQL and one Redis: one truth, whatever dies."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import aiohttp
import psycopg
import pytest
from gateway_process_kit import POOL, GatewayProcess, Load, question
from servers_kit import Postgres, Redis

from xrouter.accounts.budget import Budget
from xrouter.accounts.key import VirtualKey, hash_of, new_secret, shown
from xrouter.accounts.postgres import PostgresAccounts
from xrouter.errors import StateError
from xrouter.ledger.ledger import Spent
from xrouter.state.redis import RedisState
from xrouter.state.state import Hold


class Books:
    """What is in the ledger, read past the gateways."""

    def __init__(self, url: str) -> None:
        self.url = url

    def episodes(self) -> set[str]:
        with psycopg.connect(self.url) as connection:
            inconsistent = connection.execute(
                "SELECT episode_id FROM xrouter.episodes e WHERE calls != "
                "(SELECT count(*) FROM xrouter.calls c WHERE c.episode_id = e.episode_id)"
            ).fetchall()
            assert not inconsistent, "an episode has not the calls that it says it has"
            return {row[0] for row in connection.execute("SELECT episode_id FROM xrouter.episodes")}


@pytest.fixture
def books(postgres_server: Postgres, tmp_path: Path) -> Books:
    return Books(postgres_server.emptied())


@pytest.fixture
def hosts(books: Books, redis_server: Redis, tmp_path: Path) -> Iterator[list[GatewayProcess]]:
    settings = f'{POOL}ledger = "{books.url}"\nstate = "{redis_server.url}"\n'
    gateways = [GatewayProcess(tmp_path / name, settings=settings) for name in ("one", "two")]
    try:
        for gateway in gateways:
            gateway.wait_serving()
        yield gateways
    finally:
        for gateway in gateways:
            gateway.__exit__(None, None, None)


async def test_no_answer_is_lost_when_a_gateway_dies_or_the_database_restarts(
    hosts: list[GatewayProcess], books: Books, postgres_server: Postgres
) -> None:
    one, two = hosts
    load = Load(one.url, two.url, clients=12)
    await load.until(100)
    await asyncio.to_thread(postgres_server.restart, 0.3)
    await load.until(100)
    one.process.send_signal(signal.SIGKILL)
    await load.until(50)
    await load.stop()
    assert not load.refused, "a database that restarts at once is waited for"
    assert load.broken, "nobody was asking the gateway that was killed"
    assert await asyncio.to_thread(two.end) in (0, -signal.SIGTERM)
    assert set(load.answered) <= books.episodes()


async def test_a_database_that_stays_away_refuses_requests_until_it_is_back(
    hosts: list[GatewayProcess], books: Books, postgres_server: Postgres
) -> None:
    load = Load(*(host.url for host in hosts), clients=4)
    await load.until(20)
    await asyncio.to_thread(postgres_server.stop, signal.SIGQUIT)
    try:
        async with asyncio.timeout(30):
            while len(load.refused) < 10:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        await asyncio.to_thread(postgres_server.start)
    assert set(load.refused) <= {500, 503}, "the books are away, or where keys are kept"
    await load.until(20)
    await load.stop()
    assert set(load.answered) <= books.episodes()


async def test_a_keys_budget_holds_across_hosts_and_is_closed_without_redis(
    hosts: list[GatewayProcess], books: Books, redis_server: Redis
) -> None:
    secret = new_secret()
    store = PostgresAccounts(books.url)
    limit = Budget(Decimal("0.002"), "total")
    await store.add_key(VirtualKey("k1", "both", hash_of(secret), shown(secret), 0.0, budgets=(limit,)))
    await store.aclose()
    headers = {"authorization": f"Bearer {secret}"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def ask(number: int) -> int:
            body = question("sim-medium") | {"max_tokens": 100}
            url = hosts[number % 2].url
            async with session.post(f"{url}/chat/completions", json=body) as response:
                await response.read()
                return response.status

        statuses = []
        for _ in range(60):
            statuses += await asyncio.gather(*(ask(number) for number in range(16)))
            if statuses[-16:] == [429] * 16:
                break
        assert set(statuses) == {200, 429}
        with psycopg.connect(books.url) as connection:
            ((spent, bookings),) = connection.execute(
                "SELECT cost_usd, version FROM xrouter.spent"
            ).fetchall()
        assert bookings >= statuses.count(200)
        assert Decimal("0.001") < spent <= limit.amount_usd
        await asyncio.to_thread(redis_server.stop)
        try:
            assert [await ask(0), await ask(1)] == [503, 503]
        finally:
            await asyncio.to_thread(redis_server.start)


SPENDER = """
import asyncio, sys
from decimal import Decimal
from xrouter.ledger.ledger import Spent
from xrouter.ledger.postgres import PostgresLedger
from xrouter.state.redis import RedisState
from xrouter.state.state import Hold
sys.path.insert(0, sys.argv[1])
from ledger_kit import episode_entry

async def main(name, ledger, state):
    spent, granted = Spent("team:x"), 0
    async def ask(i):
        nonlocal spent, granted
        hold = Hold(spent, 10**10, 10**12)
        if await state.reserve(f"{name}{i}", [hold], ttl_s=60) is None:
            (total,) = await ledger.book(episode_entry(f"{name}{i}", cost="0.01"), [], ["team:x"])
            spent = max(spent, total, key=lambda one: one.version)
            await state.settle(f"{name}{i}", [total])
            granted += 1
    for start in range(0, 120, 12):
        await asyncio.gather(*(ask(i) for i in range(start, start + 12)))
    print(granted)
    await ledger.aclose(); await state.aclose()

asyncio.run(main(sys.argv[2], PostgresLedger(sys.argv[3]), RedisState(sys.argv[4], prefix=sys.argv[5])))
"""


def spender(*arguments: str) -> subprocess.Popen[str]:
    tests = str(Path(__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", SPENDER, tests, *arguments], stdout=subprocess.PIPE, text=True
    )


async def test_a_budget_is_spent_to_the_cent_by_both_together(
    books: Books, redis_server: Redis, tmp_path: Path
) -> None:
    spenders = [spender(name, books.url, redis_server.url, tmp_path.name) for name in ("one", "two")]
    granted = [int((await asyncio.to_thread(one.communicate))[0]) for one in spenders]
    assert sum(granted) == 100, "a dollar is a hundred cents"
    with psycopg.connect(books.url) as connection:
        rows = connection.execute("SELECT cost_usd, version FROM xrouter.spent").fetchall()
    assert rows == [(Decimal(1), 100)]


async def test_without_redis_nothing_is_granted_and_once_it_is_back_all_goes_on(redis_server: Redis) -> None:
    state = RedisState(redis_server.url, prefix="gone", timeout_s=0.3)
    hold = Hold(Spent("key:a"), 1, 10)
    try:
        assert await state.reserve("r1", [hold], ttl_s=60) is None
        await asyncio.to_thread(redis_server.stop)
        with pytest.raises(StateError, match="cannot be used"):
            await state.reserve("r2", [hold], ttl_s=60)
        await asyncio.to_thread(redis_server.start)
        assert await state.reserve("r2", [hold], ttl_s=60) is None
        redis_server.freeze()
        try:
            async with asyncio.timeout(2):
                with pytest.raises(StateError, match="cannot be used"):
                    await state.get("x")
        finally:
            redis_server.thaw()
        assert await state.get("x") is None
    finally:
        await state.aclose()
