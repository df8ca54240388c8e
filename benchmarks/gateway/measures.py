"""What is measured, in turns: each round puts every measure to every contestant before the next begins."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .contestants import Contestant, Route, large_body, small_body
from .figures import added_ms, on_time
from .load import Generator
from .processes import Server

DIRECT = "direct"
TOLERANCE_MS = 5.0
STREAM_SPREAD_S = 0.02

Results = dict[str, dict[str, list[float]]]
"""measure -> column -> one figure a round. CPU and latency in ms, memory in MB, start-up in s, shares from 0 to 1."""


@dataclass(frozen=True)
class Plan:
    """How much is measured. `pairs`, `streams`, `waves`: a round; `load_s`: of each closed loop. `settle_s`: how long
    a healthy server is left alone before its idle memory is read; `warm_s`: of load before the first round."""

    rounds: int = 5
    starts: int = 3
    pairs: int = 150
    concurrency: int = 32
    load_s: float = 2.0
    large_concurrency: int = 8
    streams: int = 32
    waves: int = 2
    chunks: int = 64
    interval_ms: float = 20.0
    settle_s: float = 1.0
    warm_s: float = 0.5


QUICK = Plan(rounds=1, starts=1, pairs=20, load_s=0.5, waves=1)


@dataclass
class Bench:
    """The running servers and what was found about them."""

    plan: Plan
    upstream: str
    load: Generator
    folder: Path
    results: Results = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    servers: dict[str, Server] = field(default_factory=dict)

    def start(self, contestant: Contestant, workers: int = 1) -> tuple[Server, float]:
        """A healthy server and the seconds until it was."""
        folder = Path(tempfile.mkdtemp(prefix=f"{contestant.key}-", dir=self.folder))
        server = Server(contestant.launch(folder, self.upstream, workers), folder / "log")
        return server, server.wait_healthy()

    def note(self, measure: str, column: str, value: float) -> None:
        self.results[measure][column].append(value)

    def target(self, contestant: Contestant, body: dict[str, Any]) -> dict[str, Any]:
        server = self.servers[contestant.key]
        url = f"http://{server.address}{contestant.path}"
        return {"url": url, "body": body, "headers": dict(server.headers)}

    def direct(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"url": f"{self.upstream}/chat/completions", "body": body, "headers": {}}


def start_all(bench: Bench, contestants: Sequence[Contestant], stack: ExitStack) -> None:
    """Start each some times, in turns; the last ones stay and are stopped with `stack`."""
    for number in range(bench.plan.starts):
        for contestant in contestants:
            server, seconds = bench.start(contestant)
            stack.callback(server.stop)
            bench.note("start_s", contestant.key, seconds)
            bench.note("start_cpu_s", contestant.key, server.cpu_s())
            _say(f"start {number + 1}: {contestant.key} {seconds:.2f} s")
            if number == bench.plan.starts - 1:
                time.sleep(bench.plan.settle_s)
                bench.servers[contestant.key] = server
                bench.note("idle_mb", contestant.key, server.rss_mb())
            else:
                server.stop()


def measure_rounds(bench: Bench, contestants: Sequence[Contestant]) -> None:
    ways = [(contestant, route) for contestant in contestants for route in contestant.routes]
    for contestant, route in ways:
        bench.load.run(
            job="closed",
            target=bench.target(contestant, small_body(route.model)),
            concurrency=8,
            seconds=bench.plan.warm_s,
        )
    for number in range(bench.plan.rounds):
        # Whoever comes first in one round comes later in the next.
        turn = number % len(ways)
        order = ways[turn:] + ways[:turn]
        for measure in (_latency, _requests, _large, _streams):
            measure(bench, order)
        for contestant in contestants:
            bench.note("load_mb", contestant.key, bench.servers[contestant.key].rss_mb())
        _say(f"round {number + 1} of {bench.plan.rounds}")


def measure_workers(bench: Bench, contestant: Contestant, workers: int) -> None:
    """Requests a second with one worker and with several, in turns."""
    with ExitStack() as stack:
        servers = {}
        for count in (1, workers):
            servers[count], _ = bench.start(contestant, count)
            stack.callback(servers[count].stop)
        route = contestant.routes[0]
        for number in range(bench.plan.rounds + 1):
            for count, server in servers.items():
                url = f"http://{server.address}{contestant.path}"
                target = {"url": url, "body": small_body(route.model), "headers": dict(server.headers)}
                done = bench.load.run(
                    job="closed",
                    target=target,
                    concurrency=bench.plan.concurrency * workers,
                    seconds=bench.plan.load_s,
                )
                if number:  # the first warms up
                    bench.note("workers_rps", str(count), done["requests"] / done["seconds"])


def _latency(bench: Bench, order: Sequence[tuple[Contestant, Route]]) -> None:
    direct = bench.direct(small_body("mock-model"))
    for contestant, route in order:
        through = bench.target(contestant, small_body(route.model))
        result = bench.load.run(job="pairs", targets=[direct, through], count=bench.plan.pairs)
        bench.note("added_ms", route.key, added_ms(*result["latencies_ms"]))


def _requests(bench: Bench, order: Sequence[tuple[Contestant, Route]]) -> None:
    _closed(bench, order, small_body, bench.plan.concurrency, "request_cpu_ms", "rps")


def _large(bench: Bench, order: Sequence[tuple[Contestant, Route]]) -> None:
    _closed(bench, order, large_body, bench.plan.large_concurrency, "large_cpu_ms", "large_rps")


def _closed(
    bench: Bench,
    order: Sequence[tuple[Contestant, Route]],
    body: Callable[[str], dict[str, Any]],
    concurrency: int,
    cpu: str,
    rate: str,
) -> None:
    def load(target: dict[str, Any]) -> dict[str, Any]:
        return bench.load.run(job="closed", target=target, concurrency=concurrency, seconds=bench.plan.load_s)

    done = load(bench.direct(body("mock-model")))
    bench.note(rate, DIRECT, done["requests"] / done["seconds"])
    for contestant, route in order:
        server, target = bench.servers[contestant.key], bench.target(contestant, body(route.model))
        before = server.cpu_s()
        done = load(target)
        bench.note(cpu, route.key, (server.cpu_s() - before) / done["requests"] * 1000)
        bench.note(rate, route.key, done["requests"] / done["seconds"])


def _streams(bench: Bench, order: Sequence[tuple[Contestant, Route]]) -> None:
    for server, column, target in _streamed(bench, order):
        before = server.cpu_s() if server else 0.0
        done = bench.load.run(
            job="streams",
            target=target,
            count=bench.plan.streams,
            waves=bench.plan.waves,
            spread_s=STREAM_SPREAD_S,
        )
        # Whoever waits for the whole answer and cuts it up has not streamed: no CPU per stream to compare.
        if server and done["delays_ms"]:
            bench.note("stream_cpu_ms", column, (server.cpu_s() - before) / done["streams"] * 1000)
        expected = done["streams"] * bench.plan.chunks
        bench.note("on_time", column, on_time(done["delays_ms"], expected, TOLERANCE_MS))
        delays = sorted(done["delays_ms"])
        if delays:
            bench.note("chunk_delay_ms", column, delays[len(delays) // 2])


def _streamed(
    bench: Bench, order: Sequence[tuple[Contestant, Route]]
) -> Iterator[tuple[Server | None, str, dict[str, Any]]]:
    yield None, DIRECT, bench.direct(small_body("mock-model", stream=True))
    for contestant, route in order:
        body = small_body(route.model, stream=True)
        yield bench.servers[contestant.key], route.key, bench.target(contestant, body)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
