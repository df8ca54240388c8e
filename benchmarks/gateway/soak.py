"""Mixed traffic for a long time, with the gateway's memory, open files, threads and tasks sampled.

    python -m benchmarks.gateway.soak --minutes 15 --rate 15

All three APIs, whole and streamed, through the policy and by name, with keys and budgets, an exact cache, refusals,
failing upstreams and clients that hang up. What is sampled must not grow once things are warm: the last third of the
time is compared with the one before it. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from xrouter.accounts.budget import Budget
from xrouter.accounts.manage import create_key
from xrouter.accounts.open import open_accounts
from xrouter.settings import load_settings
from xrouter.settings_tables.access import Limits

from .contestants import xrouter_toml
from .processes import Launch, Server

SAMPLE_S = 10.0
GROWTH = 1.05
"""What counts as growth: the last third's median over that of the third before it, for memory."""


@dataclass(frozen=True)
class Sample:
    at_s: float
    rss_mb: float
    files: int
    threads: int
    tasks: int


class Upstream:
    """Answers by chance: mostly well, sometimes late, with an error, or with half of a stream."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        luck = self._chance.random()
        if luck < 0.04:
            return web.json_response(
                {"error": {"message": "overloaded"}}, status=self._chance.choice([429, 500])
            )
        if luck < 0.05:
            return web.Response(text="<html>", content_type="text/html")
        head = {"id": "chatcmpl-1", "created": 1, "model": body["model"]}
        usage = {"prompt_tokens": 20, "completion_tokens": 12, "total_tokens": 32}
        if not body.get("stream"):
            await asyncio.sleep(self._chance.random() / 20)
            message = {"role": "assistant", "content": f"The answer is {self._chance.randrange(100)}."}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json_response(
                {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
            )
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for word in range(12):
            await asyncio.sleep(self._chance.random() / 50)
            if luck > 0.97 and word == 6:
                return response
            choice = {"index": 0, "delta": {"content": f"word{word} "}, "finish_reason": None}
            await self._event(response, {**head, "choices": [choice]})
        await self._event(response, {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        await self._event(response, {**head, "choices": [], "usage": usage})
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _event(self, response: web.StreamResponse, data: dict[str, Any]) -> None:
        await response.write(
            b"data: %s\n\n" % json.dumps({"object": "chat.completion.chunk", **data}).encode()
        )


class Clients:
    """One request after the other begins, `rate` a second; `seen` counts how they ended."""

    def __init__(self, url: str, keys: list[str], chance: random.Random) -> None:
        self._url = url
        self._keys = keys
        self._chance = chance
        self.seen: Counter[str] = Counter()

    async def run(self, seconds: float, rate: float) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            ends = time.monotonic() + seconds
            running: set[asyncio.Task[None]] = set()
            while time.monotonic() < ends:
                task = asyncio.create_task(self._one(session))
                running.add(task)
                task.add_done_callback(running.discard)
                await asyncio.sleep(self._chance.expovariate(rate))
            await asyncio.gather(*running)

    async def _one(self, session: aiohttp.ClientSession) -> None:
        path, body = self._request()
        key = self._chance.choice([*self._keys, "xr-unknown"])
        hangs_up = self._chance.random() < 0.08
        try:
            async with asyncio.timeout(self._chance.random() / 5 if hangs_up else 60):
                headers = {"authorization": f"Bearer {key}"}
                async with session.post(self._url + path, data=body, headers=headers) as answer:
                    await answer.read()
                    self.seen[str(answer.status)] += 1
        except TimeoutError:
            self.seen["hung up"] += 1
        except aiohttp.ClientError as error:
            self.seen[type(error).__name__] += 1

    def _request(self) -> tuple[str, bytes]:
        chance = self._chance
        if chance.random() < 0.05:
            return chance.choice(
                ["/v1/chat/completions", "/v1/messages"]
            ), b'{"model": "xrouter", "messages": ['
        text = f"What is {chance.randrange(10_000)} + 1?" if chance.random() < 0.8 else "What is 2 + 2?"
        model = chance.choice(["xrouter", "xrouter:economy", "gpt-5-mini", "gpt-5-nano", "no-such-model"])
        fields = {"model": model, "stream": chance.random() < 0.5}
        messages = [{"role": "user", "content": text}]
        path = chance.choice(["/v1/chat/completions", "/v1/responses", "/v1/messages"])
        if path == "/v1/responses":
            return path, json.dumps({**fields, "input": text, "max_output_tokens": 200}).encode()
        return path, json.dumps(
            {**fields, "messages": messages, "max_tokens": 200, "temperature": 0}
        ).encode()


async def make_keys(config: Path) -> list[str]:
    """Keys with room for everything, with a budget that runs out at times, and with a limit of requests."""
    store = open_accounts(load_settings(config))
    try:
        made = [
            await create_key(store, "roomy", time.time(), team="t", tags=("soak",)),
            await create_key(store, "tight", time.time(), budgets=(Budget(Decimal("0.05"), "day"),)),
            await create_key(store, "slow", time.time(), limits=Limits(requests_per_minute=60)),
        ]
    finally:
        await store.aclose()
    return [each.secret for each in made]


async def sampled(server: Server, tasks: Path, seconds: float) -> list[Sample]:
    started, samples = time.monotonic(), []
    while (now := time.monotonic() - started) < seconds:
        pid = server.pids()[0]
        os.kill(pid, signal.SIGUSR1)
        await asyncio.sleep(0.5)
        samples.append(
            Sample(
                now,
                server.rss_mb(),
                len(os.listdir(f"/proc/{pid}/fd")),
                len(os.listdir(f"/proc/{pid}/task")),
                int(tasks.read_text()),  # noqa: ASYNC240
            )
        )
        await asyncio.sleep(SAMPLE_S)
    return samples


def report(samples: list[Sample], seen: Counter[str]) -> str:
    third = len(samples) // 3
    lines = ["| | first minute | second third | last third |", "| --- | ---: | ---: | ---: |"]
    grew = []
    for name in ("rss_mb", "files", "threads", "tasks"):
        parts = (samples[: max(1, round(60 / SAMPLE_S))], samples[third : 2 * third], samples[2 * third :])
        first, before, last = (statistics.median(getattr(s, name) for s in part) for part in parts)
        lines.append(f"| {name} | {first:.1f} | {before:.1f} | {last:.1f} |")
        if last > before * GROWTH + (2 if name != "rss_mb" else 0):
            grew.append(name)
    answers = ", ".join(f"{count} {how}" for how, count in sorted(seen.items()))
    return "\n".join([*lines, "", f"Answers: {answers}.", f"Grew: {', '.join(grew) or 'nothing'}."])


async def soak(minutes: float, rate: float, folder: Path) -> str:
    chance = random.Random(1)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", Upstream(chance))
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    config, tasks = folder / "xrouter.toml", folder / "tasks"
    upstream = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    more = "[cache]\nexact = true\nttl_s = 60\nmax_entries = 500\n"
    config.write_text(xrouter_toml(upstream, folder / "ledger.sqlite", more))
    keys = await make_keys(config)
    port = _free_port()
    argv = [sys.executable, "-m", "benchmarks.gateway.watched_serve", str(tasks), "serve"]
    argv += ["--config", str(config), "--port", str(port)]
    paths = os.pathsep.join(path for path in (str(Path.cwd()), os.environ.get("PYTHONPATH", "")) if path)
    env = {**os.environ, "OPENAI_API_KEY": "none", "PYTHONPATH": paths}
    server = Server(Launch(argv, f"127.0.0.1:{port}", "/healthz", env), folder / "log")
    try:
        await asyncio.to_thread(server.wait_healthy)
        clients = Clients(f"http://127.0.0.1:{port}", keys, chance)
        samples, _ = await asyncio.gather(
            sampled(server, tasks, minutes * 60), clients.run(minutes * 60, rate)
        )
        return report(samples, clients.seen)
    finally:
        await asyncio.to_thread(server.stop)
        await runner.cleanup()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--rate", type=float, default=15.0, help="requests a second")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(asyncio.run(soak(args.minutes, args.rate, Path(folder))))


if __name__ == "__main__":
    main()
