"""The gateway benchmark measures what it says: its upstream, its client, its figures, its page."""

from __future__ import annotations

import asyncio
import json
import math
import tomllib
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from upstream import closed_port_url

from benchmarks.gateway.__main__ import mock_upstream
from benchmarks.gateway.client import Connection, make_target
from benchmarks.gateway.contestants import (
    OurOptions,
    large_body,
    ours,
    ours_in_memory,
    small_body,
    xrouter_toml,
)
from benchmarks.gateway.figures import added_ms, on_time, ratio, summary
from benchmarks.gateway.load import Generator, run_job
from benchmarks.gateway.measures import QUICK, Bench, measure_rounds, start_all
from benchmarks.gateway.processes import parse_cpu_s
from benchmarks.gateway.table import READING, Bar, Row, bars, factor, kept, measurements, page
from benchmarks.gateway.upstream import Upstream
from benchmarks.gateway.venvs import environment
from xrouter.settings import load_settings

TINY = replace(
    QUICK,
    pairs=2,
    concurrency=2,
    load_s=0.05,
    large_concurrency=1,
    streams=2,
    chunks=4,
    interval_ms=2,
    settle_s=0,
    warm_s=0.05,
)


@asynccontextmanager
async def upstream(chunks: int = 4, interval_s: float = 0.005) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(chunks, interval_s), "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions"


async def ask(url: str, **more: Any) -> tuple[bytes, list[float]]:
    connection = Connection(make_target(url, small_body("m", **more), {}))
    reply = await connection.ask()
    connection.close()
    return b"".join(reply.body), reply.delays_ms


async def test_the_upstream_answers_whole_requests_one_after_another() -> None:
    async with upstream() as url:
        connection = Connection(make_target(url, large_body("m"), {}))
        for _ in range(3):
            data = json.loads(b"".join((await connection.ask()).body))
            assert data["choices"][0]["message"]["content"]
            assert data["usage"]["total_tokens"] == 184
        connection.close()


async def test_the_upstream_streams_at_its_pace_and_each_chunk_tells_its_delay() -> None:
    async with upstream(chunks=5, interval_s=0.02) as url:
        started = asyncio.get_running_loop().time()
        body, delays = await ask(url, stream=True)
        assert asyncio.get_running_loop().time() - started >= 5 * 0.02
    assert len(delays) == 5
    assert all(0 <= delay < 1000 for delay in delays)
    events = body.decode().strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    assert chunks[-1]["usage"]["completion_tokens"] == 64
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"


def test_a_stamp_cut_in_two_is_read_once() -> None:
    stream = b"data: @0000000000000001 \n\n" * 3
    for cut in range(len(stream)):
        connection = Connection(make_target("http://127.0.0.1:1/", {}, {}))
        connection.on_body(stream[:cut])
        connection.on_body(stream[cut:])
        assert len(connection._reply.delays_ms) == 3


async def test_an_answer_that_is_no_200_is_an_error() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 6\r\n\r\nno key")
        await reader.read(1 << 16)
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RuntimeError, match="401: no key"):
            await ask(f"http://127.0.0.1:{port}/")


async def test_a_connection_dropped_in_the_answer_is_an_error() -> None:
    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nno")
        writer.close()

    async with await asyncio.start_server(drop, "127.0.0.1", 0) as server:
        with pytest.raises(ConnectionError):
            await ask(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")


def test_the_generators_jobs() -> None:
    with mock_upstream(replace(QUICK, chunks=3, interval_ms=1)) as base:
        target = {"url": f"{base}/chat/completions", "body": small_body("m"), "headers": {}}
        pairs = run_job({"job": "pairs", "targets": [target, target], "count": 3})
        assert [len(column) for column in pairs["latencies_ms"]] == [3, 3]
        closed = run_job({"job": "closed", "target": target, "concurrency": 2, "seconds": 0.05})
        assert closed["requests"] >= 2
        streamed = {**target, "body": small_body("m", stream=True)}
        streams = run_job({"job": "streams", "target": streamed, "count": 4, "waves": 2, "spread_s": 0.01})
        assert (streams["streams"], len(streams["delays_ms"])) == (8, 24)


@pytest.mark.parametrize(
    "job", [{"job": "closed", "concurrency": 2, "seconds": 1}, {"job": "pairs", "count": 1}]
)
def test_a_job_that_fails_says_so(job: dict[str, Any]) -> None:
    target = {"url": f"{closed_port_url()}/chat/completions", "body": {}, "headers": {}}
    assert run_job({**job, "target": target, "targets": [target]})["error"]


def test_the_body_called_large_is() -> None:
    body = large_body("m")
    assert len(body["messages"]) == 401
    assert 190_000 < len(json.dumps(body, separators=(",", ":"))) < 210_000


def test_settings_of_ones_own_join_the_generated_ones(tmp_path: Path) -> None:
    more = 'default_preset = "economy"\n[presets]\nthrifty = 5.0\n'
    file = tmp_path / "xrouter.toml"
    file.write_text(xrouter_toml("http://127.0.0.1:9/v1", tmp_path / "ledger.sqlite", more))
    settings = load_settings(file, env={})
    assert settings.default_preset == "economy"
    assert settings.presets["thrifty"] == 5
    assert settings.endpoints["openai"].base_url == "http://127.0.0.1:9/v1"
    assert tomllib.loads(file.read_text())["pool"]


def test_an_environment_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    (tmp_path / ".requirement").write_text("something==1")
    assert environment(tmp_path, "something==1") == tmp_path / "bin"


def test_the_key_is_what_the_setup_printed(tmp_path: Path) -> None:
    options = OurOptions(setup=(("models", "--help"),), key_pattern=r"catalog", env={"XROUTER_NOTHING": "1"})
    launch = ours(options).launch(tmp_path, "http://127.0.0.1:9/v1", 2)
    assert launch.headers == {"authorization": "Bearer catalog"}
    assert launch.env["XROUTER_NOTHING"] == "1"
    assert list(launch.argv[-2:]) == ["--workers", "2"]
    with pytest.raises(ValueError, match="printed nothing"):
        ours(replace(options, key_pattern="no such key")).launch(tmp_path, "http://127.0.0.1:9/v1", 1)


def test_cpu_is_read_behind_a_name_with_brackets() -> None:
    fields = ["S", *["0"] * 10, "100", "20", "3", "2", *["0"] * 30]
    assert parse_cpu_s(f"7 (a) b (c) {' '.join(fields)}", ticks_per_s=100) == 1.25


def test_figures() -> None:
    found = summary([3.0, 1.0, 2.0])
    assert (found.median, found.low, found.high, found.rounds) == (2, 1, 3, 3)
    with pytest.raises(ValueError, match="no measurement"):
        summary([])
    # The machine was slow for the last pair, which changes neither of the medians' difference by half a second.
    assert added_ms([1, 1, 500], [3, 3, 502]) == 2
    assert on_time([1, 5, 5.1], expected=4, tolerance_ms=5) == 0.5
    assert ratio([1, 50, 2], [2, 100, 1]) == 0.5
    assert math.isinf(ratio([1], [-0.1]))


@pytest.mark.parametrize(("value", "text"), [(1 / 20, "1/20"), (1.5, "1.5"), (0.98, "0.98"), (0, "0")])
def test_factor(value: float, text: str) -> None:
    assert factor(value) == text


def test_bars_are_met_missed_or_not_measured() -> None:
    results = {
        "cpu": {"ours": [1.0, 9.0, 2.0], "theirs": [10.0, 90.0, 1.0]},
        "share": {"ours": [0.9], "theirs": [1.0]},
    }
    asked = (
        Bar("a", "cpu", "ours", "theirs", 1 / 10),
        Bar("b", "cpu", "ours", "theirs", 1 / 11),
        Bar("c", "share", "ours", "theirs", 0.98, most=False),
        Bar("d", "cpu", "ours", "nobody", 1),
    )
    rows = [line.split(" | ")[-1].rstrip(" |") for line in bars(results, asked).splitlines()[2:]]
    assert rows == ["met", "**missed**", "**missed**", "not measured"]


def test_what_was_written_below_an_earlier_page_stays() -> None:
    assert kept(f"# Old\n\n- figures\n\n{READING}\n\nWhy.\n") == f"\n{READING}\n\nWhy.\n"
    assert kept("# Old\n\n- figures\n") == ""


def test_measurements_leave_out_what_nobody_has() -> None:
    rows = (Row("share", "share, %", 1, 100), Row("nothing", "nothing"))
    table = measurements(rows, {"share": {"a": [0.5, 0.25, 1.0]}}, {"a": "A", "b": "B"})
    assert table.splitlines()[0] == "|  | A | B |"
    assert table.splitlines()[2:] == ["| share, % | 50.0 (25.0–100.0) | – |"]


def test_one_round_of_our_gateway(tmp_path: Path) -> None:
    contestant = ours(OurOptions())
    memory = ours_in_memory(OurOptions(), tmp_path / "memory")
    with ExitStack() as stack:
        base = stack.enter_context(mock_upstream(TINY))
        load = Generator()
        stack.callback(load.close)
        bench = Bench(TINY, base, load, tmp_path)
        start_all(bench, [contestant, memory], stack)
        measure_rounds(bench, [contestant, memory])
        assert next((tmp_path / "memory").rglob("ledger.sqlite")).stat().st_size
    results = bench.results
    assert results["request_cpu_ms"]["policy"][0] >= 0
    assert results["idle_mb"]["xrouter"][0] > 10
    assert results["on_time"]["named"][0] > 0
    text = page(results, {"policy": "P"}, {"xrouter": "X"}, machine={"cores": "2"}, notes=["n"], command="c")
    assert "| added latency, concurrency 1, ms |" in text
