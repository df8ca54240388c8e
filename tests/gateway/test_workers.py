"""`xrouter serve --workers N`: one port, several processes, and someone who looks after them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from gateway_process_kit import GatewayProcess, Load, is_alive, question
from upstream import MockUpstream, Received, ok

from xrouter.errors import ConfigurationError
from xrouter.gateway.workers import listeners

INCONSISTENT = """SELECT episode_id FROM episodes
    WHERE calls != (SELECT count(*) FROM calls WHERE calls.episode_id = episodes.episode_id)"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts processes in /proc")


async def test_workers_share_port_and_books_and_are_replaced(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, "--workers", "2", "--ledger", "books.sqlite") as gateway:
        assert gateway.lines[-1] == "workers 2" or await gateway.wait_line("workers 2")
        load = Load(gateway.url, clients=16)
        await load.until(100)
        first = gateway.workers()
        assert len(first) == 2
        for _ in range(2):
            os.kill(gateway.workers()[0], signal.SIGKILL)
            await load.until(60)
        await gateway.wait_line("was ended by SIGKILL: starting another in 0.")
        await load.until(60)
        assert len(gateway.workers()) == 2
        await load.stop()
        assert gateway.end() == 0
    assert not load.refused
    with closing(sqlite3.connect(tmp_path / "books.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        booked = {episode_id for (episode_id,) in connection.execute("SELECT episode_id FROM episodes")}
        assert connection.execute(INCONSISTENT).fetchall() == []
    assert set(load.answered) <= booked, "answers reached their clients without being in the books"


async def test_what_is_under_way_is_finished_before_the_end(
    tmp_path: Path, mock_upstream: MockUpstream
) -> None:
    async def late(received: Received, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.8)
        return await ok("late")(received, request)

    mock_upstream.default = late
    settings = f"""
        pool = ["mine"]
        [endpoints.mock]
        base_url = "{mock_upstream.base_url}"
        [models.mine]
        provider = "mock"
        id = "mine"
        context_window = 8000
        max_output_tokens = 1000
        tier = "budget"
        price = {{ input = "1", output = "2", dated = 2026-01-01, source = "tests" }}
    """
    with GatewayProcess(tmp_path, "--workers", "2", settings=settings) as gateway:
        async with aiohttp.ClientSession() as session:

            async def ask() -> int:
                async with session.post(f"{gateway.url}/chat/completions", json=question("mine")) as response:
                    await response.read()
                    return response.status

            asked = [asyncio.create_task(ask()) for _ in range(8)]
            await mock_upstream.wait_requests(8)
            ended = asyncio.create_task(asyncio.to_thread(gateway.end))
            assert await asyncio.gather(*asked) == [200] * 8
            assert await ended == 0


async def test_ctrl_c_ends_it_without_a_trace(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, "--workers", "2") as gateway:
        workers = gateway.workers()
        assert await asyncio.to_thread(gateway.end, signal.SIGINT) == 0
        assert not any("Traceback" in line for line in gateway.lines)
    assert not any(is_alive(pid) for pid in workers)


async def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, "--workers", "2") as gateway:
        workers = gateway.workers()
        await asyncio.to_thread(gateway.end, signal.SIGKILL)
        async with asyncio.timeout(15):
            while any(is_alive(pid) for pid in workers):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--ledger", "."), 1, "cannot be opened for writing"),
        (("--policy", "no-such-policy"), None, "no-such-policy"),
        (("--ledger", "mysql://ann:geheim@host/db"), 2, "--ledger must be a path or a URL"),
    ],
)
async def test_what_cannot_start_says_why_and_fails(
    tmp_path: Path, options: tuple[str, ...], code: int | None, words: str
) -> None:
    gateway = GatewayProcess(tmp_path, "--workers", "2", *options)
    try:
        ended = await asyncio.to_thread(gateway.process.wait, 30)
        assert ended == code if code else ended > 0
        await gateway.wait_line(words)
        assert not any("geheim" in line for line in gateway.lines)
    finally:
        gateway.__exit__(None, None, None)


@pytest.mark.parametrize("reuse", [False, True])
def test_a_port_that_another_server_has_is_not_shared_with_it(reuse: bool) -> None:
    with (
        socket.create_server(("127.0.0.1", 0), reuse_port=reuse) as taken,
        pytest.raises(ConfigurationError, match="cannot listen"),
    ):
        listeners("127.0.0.1", taken.getsockname()[1], 2)


def test_each_worker_has_a_socket_of_its_own_on_the_port() -> None:
    sockets = listeners("127.0.0.1", 0, 3)
    try:
        assert len({one.getsockname() for one in sockets}) == 1
        assert len({one.fileno() for one in sockets}) == 3
    finally:
        for one in sockets:
            one.close()
