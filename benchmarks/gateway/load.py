"""The load generator, a process of its own: one JSON job a line on stdin, one JSON result a line on stdout.

jobs
    pairs    {targets: [direct, through], count}       latencies in ms of each, asked in turns
    closed   {target, concurrency, seconds}            as many requests as go, each connection one at a time
    streams  {target, count, waves, spread_s}          `count` streams at once, begun evenly over `spread_s`
A target is {url, body, headers}.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop

from .client import Connection, Target, make_target


async def pairs(targets: list[Target], count: int) -> dict[str, Any]:
    connections = [Connection(target) for target in targets]
    latencies: list[list[float]] = [[] for _ in targets]
    for _ in range(count):
        for connection, column in zip(connections, latencies, strict=True):
            started = time.perf_counter()
            await connection.ask()
            column.append((time.perf_counter() - started) * 1000)
    for connection in connections:
        connection.close()
    return {"latencies_ms": latencies}


async def closed(target: Target, concurrency: int, seconds: float) -> dict[str, Any]:
    done = 0
    started = time.perf_counter()

    async def work() -> None:
        nonlocal done
        connection = Connection(target)
        while time.perf_counter() - started < seconds:
            await connection.ask()
            done += 1
        connection.close()

    await _all(work() for _ in range(concurrency))
    return {"requests": done, "seconds": time.perf_counter() - started}


async def streams(target: Target, count: int, waves: int, spread_s: float) -> dict[str, Any]:
    delays: list[float] = []
    connections = [Connection(target) for _ in range(count)]

    async def work(connection: Connection, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        delays.extend((await connection.ask()).delays_ms)

    started = time.perf_counter()
    for _ in range(waves):
        await _all(work(connection, i * spread_s / count) for i, connection in enumerate(connections))
    for connection in connections:
        connection.close()
    return {"streams": count * waves, "delays_ms": delays, "seconds": time.perf_counter() - started}


async def _all(work: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for coroutine in work:
            group.create_task(coroutine)


def run_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """The result, or {"error": ...}: what a contestant does wrong ends the measurement, not the generator."""
    more = {name: value for name, value in job.items() if name not in ("job", "target", "targets")}
    try:
        if job["job"] == "pairs":
            return uvloop.run(pairs([make_target(**target) for target in job["targets"]], **more))
        target = make_target(**job["target"])
        return uvloop.run(closed(target, **more) if job["job"] == "closed" else streams(target, **more))
    except (OSError, RuntimeError) as error:
        return {"error": str(error)}
    except ExceptionGroup as group:
        expected, others = group.split((OSError, RuntimeError))
        if others is not None:
            raise others from None
        assert expected is not None
        return {"error": "; ".join(sorted({str(error) for error in expected.exceptions})[:3])}


class Generator:
    """The generator's process, as the benchmark holds it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gateway.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def run(self, **job: Any) -> dict[str, Any]:
        """Raises RuntimeError where a request failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator has died")
        result: dict[str, Any] = json.loads(line)
        if "error" in result:
            raise RuntimeError(f"the {job['job']} load failed: {result['error']}")
        return result

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(run_job(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
