"""kill -9 under load, again and again: who got an answer whole finds it in the books, and the books add up."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sqlite3
import time
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest
from accounts_kit import budget
from faults_kit import CHAT, MESSAGES, PATHS, body_for
from gateway_process_kit import POOL, GatewayProcess

from xrouter.accounts.manage import create_key
from xrouter.accounts.open import open_accounts
from xrouter.ledger.sqlite import SqliteLedger
from xrouter.settings import load_settings

SETTINGS = POOL + 'ledger = "books.sqlite"\n'


class Clients:
    """Ask by all three APIs, whole and streamed; `whole`: ids of the episodes whose answers came to their end."""

    def __init__(self, url: str, secret: str, count: int = 12) -> None:
        self.whole: list[str] = []
        self.statuses: set[int] = set()
        self._url = url.removesuffix("/v1")
        self._secret = secret
        self._tasks = [asyncio.create_task(self._ask(number)) for number in range(count)]

    async def until(self, answers: int) -> None:
        async with asyncio.timeout(60):
            while len(self.whole) < answers:  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(self, number: int) -> None:
        path, stream = PATHS[number % 3], number % 2 == 0
        headers = {"authorization": f"Bearer {self._secret}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            for turn in range(1_000_000):
                model = "xrouter" if turn % 3 == 0 else "sim-small"
                body = body_for(path, f"What is {number} + {turn}?", model=model, stream=stream)
                try:
                    async with session.post(self._url + path, json=body) as answer:
                        said = await answer.read()
                    self.statuses.add(answer.status)
                    if answer.status == 200:
                        self.whole.append(episode_of(path, stream, said))
                except (aiohttp.ClientError, ConnectionError, Unfinished):
                    await asyncio.sleep(0.01)


class Unfinished(Exception):
    """A stream without its end."""


def episode_of(path: str, stream: bool, said: bytes) -> str:
    """The episode of a whole answer, by the id that its API gives it. Raises Unfinished."""
    if not stream:
        answer = json.loads(said)
    else:
        end = {CHAT: b"data: [DONE]\n\n", MESSAGES: b"event: message_stop"}.get(
            path, b"event: response.completed"
        )
        if end not in said:
            raise Unfinished
        first = json.loads(next(line for line in said.splitlines() if line.startswith(b"data: "))[6:])
        answer = first.get("message") or first.get("response") or first
    return str(answer["id"]).removeprefix("chatcmpl-").removeprefix("msg_").removeprefix("resp_")


async def killed_while_serving(folder: Path, secret: str, answers: int) -> Clients:
    with GatewayProcess(folder, settings=SETTINGS) as gateway:
        clients = Clients(gateway.url, secret)
        await clients.until(answers)
        gateway.process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(gateway.process.wait)
        await clients.stop()
    return clients


async def key_with_a_budget(folder: Path) -> str:
    (folder / "xrouter.toml").write_text(SETTINGS.replace('"books.sqlite"', f'"{folder / "books.sqlite"}"'))
    store = open_accounts(load_settings(folder / "xrouter.toml", env={}))
    made = await create_key(
        store, "load", time.time(), team="search", budgets=(budget("900", "total"), budget("500", "day"))
    )
    await store.aclose()
    return made.secret


def assert_books_are_whole(books: Path, answered: list[str]) -> int:
    """Every answer has its rows, every episode is the sum of its calls, every budget the sum of its episodes."""
    connection = sqlite3.connect(books)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    costs: dict[str, Decimal] = defaultdict(Decimal)
    counts: dict[str, int] = defaultdict(int)
    for episode, cost, kind in connection.execute("SELECT episode_id, cost_usd, kind FROM calls"):
        costs[episode] += Decimal(cost)
        counts[episode] += kind == "call"
    episodes = {
        episode: (Decimal(cost), calls)
        for episode, cost, calls in connection.execute("SELECT episode_id, cost_usd, calls FROM episodes")
    }
    assert set(answered) <= set(episodes), "an answer without rows"
    assert set(costs) <= set(episodes), "calls without an episode"
    for episode, (cost, calls) in episodes.items():
        assert (cost, calls) == (costs[episode], counts[episode]), episode
    total = sum((cost for cost, _ in episodes.values()), Decimal(0))
    spent = {scope: Decimal(cost) for scope, cost in connection.execute("SELECT scope, cost_usd FROM spent")}
    connection.close()
    assert spent, "no budget was charged"
    by_period: dict[str, Decimal] = defaultdict(Decimal)
    for scope, cost in spent.items():
        by_period["total" if scope.endswith("/total") else "day"] += cost
    assert by_period == {"total": total, "day": total}
    assert total > 0
    return len(episodes)


async def kill_repeatedly(folder: Path, times: int) -> None:
    chance = random.Random(times)
    secret = await key_with_a_budget(folder)
    answered: list[str] = []
    for _ in range(times):
        clients = await killed_while_serving(folder, secret, chance.randrange(10, 120))
        assert clients.statuses <= {200, 502}, "simulated models fail now and then, nothing else does"
        answered += clients.whole
        booked = assert_books_are_whole(folder / "books.sqlite", answered)
    assert len(set(answered)) == len(answered)
    print(f"{times} kills: {len(answered)} answers came whole, {booked} episodes are booked")
    ledger = SqliteLedger(folder / "books.sqlite")
    assert ledger.totals().requests == booked
    await ledger.aclose()


async def test_killed_three_times(tmp_path: Path) -> None:
    await kill_repeatedly(tmp_path, 3)


@pytest.mark.slow
async def test_killed_fifty_times(tmp_path: Path) -> None:
    await kill_repeatedly(tmp_path, 50)
