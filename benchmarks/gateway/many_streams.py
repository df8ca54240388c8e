"""Thousands of slow streams at once through one worker: are any lost, and how much memory does each take?

    python -m benchmarks.gateway.many_streams --streams 10000

The mock upstream, the gateway and the clients are processes of their own. A stream takes two open files in the gateway,
one to each side, so that `ulimit -n` bounds how many there can be: where it does not allow what was asked for, fewer are
opened and the report says so. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

import uvloop

from .contestants import NAMED, xrouter_toml
from .processes import Launch, Server

SPARE_FILES = 200
RAMP_PER_S = 150
"""A stream must last longer than all of them take to open: `--streams` over this many seconds, or more."""

CHUNKS = 16


class Stream(asyncio.Protocol):
    """Sends one request and counts what comes back. `whole`: it ended with [DONE]."""

    def __init__(self, request: bytes, closed: asyncio.Event) -> None:
        self._request = request
        self._closed = closed
        self._tail = b""
        self.events = 0
        self.whole = False
        self.begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.begun = True
        self.events += data.count(b"data: {")
        self._tail = (self._tail + data)[-32:]
        if b"[DONE]" in self._tail:
            self.whole = True
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed.set()


async def clients(host: str, port: int, count: int) -> dict[str, int]:
    """Opens the streams at RAMP_PER_S and waits for all of them. Prints how many are open once all have begun."""
    body = json.dumps({"model": NAMED, "stream": True, "messages": [{"role": "user", "content": "Go on."}]})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n"
    loop = asyncio.get_running_loop()
    streams, ends = [], []
    started = loop.time()
    for number in range(count):
        closed = asyncio.Event()
        stream = Stream((head + body).encode(), closed)
        await loop.create_connection(lambda stream=stream: stream, host, port)  # type: ignore[misc]
        streams.append(stream)
        ends.append(closed)
        await asyncio.sleep(max(0.0, started + number / RAMP_PER_S - loop.time()))
    while not all(stream.begun for stream in streams) and loop.time() - started < 300:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    print("open", sum(not closed.is_set() for closed in ends), flush=True)
    async with asyncio.timeout(600):
        for closed in ends:
            await closed.wait()
    return {
        "begun": sum(stream.begun for stream in streams),
        "whole": sum(stream.whole for stream in streams),
        "all chunks": sum(stream.events >= CHUNKS for stream in streams),
    }


def run(streams: int, interval_s: float, folder: Path) -> str:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(streams, (hard - SPARE_FILES) // 2)
    upstream = subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.gateway.upstream"),
            *("--chunks", str(CHUNKS), "--interval-ms", str(interval_s * 1000)),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert upstream.stdout is not None
    address = f"http://127.0.0.1:{int(upstream.stdout.readline())}/v1"
    config = folder / "xrouter.toml"
    toml = xrouter_toml(address, folder / "ledger.sqlite").replace(
        "max_concurrency_per_model = 256", f"max_concurrency_per_model = {2 * count}"
    )
    config.write_text(toml)
    paths = os.pathsep.join(path for path in (str(Path.cwd()), os.environ.get("PYTHONPATH", "")) if path)
    env = {**os.environ, "OPENAI_API_KEY": "none", "PYTHONPATH": paths}
    port = free_port()
    argv = [sys.executable, "-m", "xrouter", "serve", "--config", str(config), "--port", str(port)]
    server = Server(Launch(argv, f"127.0.0.1:{port}", "/healthz", env), folder / "log")
    try:
        server.wait_healthy()
        idle = server.rss_mb()
        with subprocess.Popen(
            [sys.executable, "-m", __spec__.name, "--clients", str(port), "--streams", str(count)],
            stdout=subprocess.PIPE,
            text=True,
        ) as load:
            assert load.stdout is not None
            started = time.monotonic()
            word, _, at_once = load.stdout.readline().strip().partition(" ")
            if word != "open":
                raise RuntimeError("the clients could not open their streams")
            opened = time.monotonic() - started
            held = server.rss_mb()
            before, cpu = time.monotonic(), server.cpu_s()
            result = json.loads(load.stdout.readline())
            busy = (server.cpu_s() - cpu) / (time.monotonic() - before)
        after = server.rss_mb()
    finally:
        server.stop()
        upstream.kill()
        upstream.wait()
    lines = [
        f"asked for {streams} streams; {count} opened"
        + ("" if count == streams else f" (ulimit -n is {hard})"),
        f"{at_once} were open at once after {opened:.0f} s; {CHUNKS} chunks each, one every {interval_s:g} s",
        f"memory: {idle:.0f} MB idle, {held:.0f} MB with all open, {after:.0f} MB after",
        f"each stream: {(held - idle) * 1000 / count:.1f} kB; CPU while they ran: {100 * busy:.0f} % of a core",
        f"begun {result['begun']}, whole {result['whole']}, with every chunk {result['all chunks']}",
    ]
    return "\n".join(lines)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--interval-s", type=float, default=15.0, help="between the chunks of a stream")
    parser.add_argument("--clients", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.clients is not None:
        print(json.dumps(uvloop.run(clients("127.0.0.1", args.clients, args.streams))), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        print(run(args.streams, args.interval_s, Path(folder)))


if __name__ == "__main__":
    main()
