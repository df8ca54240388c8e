"""The Markdown page: what was measured, and how it stands against the bars. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .figures import ratio, summary

Results = Mapping[str, Mapping[str, Sequence[float]]]


@dataclass(frozen=True)
class Row:
    measure: str
    title: str
    digits: int = 2
    scale: float = 1.0


@dataclass(frozen=True)
class Bar:
    """Column `ours` of `measure` over column `theirs` shall be at most (`most`) or at least the limit."""

    title: str
    measure: str
    ours: str
    theirs: str
    limit: float
    most: bool = True


ROWS = (
    Row("added_ms", "added latency, concurrency 1, ms"),
    Row("request_cpu_ms", "CPU per request, concurrency 32, ms"),
    Row("rps", "requests per second, concurrency 32", 0),
    Row("stream_cpu_ms", "CPU per paced stream of 64 chunks, ms"),
    Row("on_time", "chunks delivered on time, %", 1, 100),
    Row("chunk_delay_ms", "delay of a chunk, median, ms"),
    Row("large_cpu_ms", "CPU per request with a body of 200 KB, ms"),
    Row("large_rps", "the same, requests per second, concurrency 8", 0),
)
SERVER_ROWS = (
    Row("idle_mb", "memory idle, MB", 0),
    Row("load_mb", "memory under load, MB", 0),
    Row("start_s", "start to first healthy answer, s"),
    Row("start_cpu_s", "the same, CPU s"),
)
BARS = (
    Bar("added latency, of LiteLLM's", "added_ms", "policy", "litellm", 1 / 20),
    Bar("added latency, of TensorZero's", "added_ms", "policy", "tensorzero", 2),
    Bar("CPU per request, of LiteLLM's", "request_cpu_ms", "policy", "litellm", 1 / 30),
    Bar("CPU per request, of TensorZero's", "request_cpu_ms", "policy", "tensorzero", 1.5),
    Bar("CPU per paced stream, of LiteLLM's", "stream_cpu_ms", "policy", "litellm", 1 / 12),
    Bar("chunks on time, of direct", "on_time", "policy", "direct", 0.98, most=False),
    Bar("CPU with a body of 200 KB, of LiteLLM's", "large_cpu_ms", "policy", "litellm", 1 / 12),
    Bar("memory idle, of LiteLLM's", "idle_mb", "xrouter", "litellm", 1 / 3),
    Bar("start, of LiteLLM's", "start_s", "xrouter", "litellm", 1 / 8),
    Bar("requests per second of 2 workers, of 1 worker's", "workers_rps", "2", "1", 1.7, most=False),
)


def measurements(rows: Sequence[Row], results: Results, columns: Mapping[str, str]) -> str:
    """One row a measure, one column a key of `columns`: the median (and lowest to highest) over the rounds."""
    lines = [_line(["", *columns.values()]), _line(["---", *("---:" for _ in columns)])]
    for row in rows:
        found = results.get(row.measure, {})
        if found:
            lines.append(_line([row.title, *(_cell(found.get(key, ()), row) for key in columns)]))
    return "\n".join(lines)


def bars(results: Results, asked: Sequence[Bar] = BARS) -> str:
    lines = [_line(["measure", "asked for", "measured", ""]), _line(["---", "---:", "---:", "---"])]
    for bar in asked:
        found = results.get(bar.measure, {})
        sign = "≤" if bar.most else "≥"
        if not (found.get(bar.ours) and found.get(bar.theirs)):
            lines.append(_line([bar.title, f"{sign} {factor(bar.limit)}", "–", "not measured"]))
            continue
        value = ratio(found[bar.ours], found[bar.theirs])
        met = value <= bar.limit if bar.most else value >= bar.limit
        lines.append(
            _line([bar.title, f"{sign} {factor(bar.limit)}", factor(value), "met" if met else "**missed**"])
        )
    return "\n".join(lines)


def factor(value: float) -> str:
    """A ratio as people say it: 1/20 below a half, else 1.5."""
    if math.isinf(value):
        return "∞"
    if 0 < value < 0.5:
        return f"1/{1 / value:.3g}"
    return f"{value:.3g}"


def page(
    results: Results,
    routes: Mapping[str, str],
    servers: Mapping[str, str],
    *,
    machine: Mapping[str, str],
    notes: Sequence[str],
    command: str,
) -> str:
    """The whole document. `routes` and `servers`: column key -> its title."""
    return (
        "\n\n".join(
            [
                "# The gateway beside others",
                _INTRODUCTION,
                f"```sh\n{command}\n```",
                "## Against what was asked for",
                bars(results),
                "## Measured",
                measurements(ROWS, results, {"direct": "direct", **routes}),
                measurements(SERVER_ROWS, results, servers),
                "## On",
                "\n".join(f"- {name}: {value}" for name, value in machine.items()),
                *(["## Notes", "\n".join(f"- {note}" for note in notes)] if notes else []),
            ]
        )
        + "\n"
    )


READING = "## Reading the figures"

_INTRODUCTION = """\
One run on one machine: the same mock upstream, which answers at once, and the same load generator for all; one worker
each. xrouter checks a virtual key, decides by the packaged policy in a pool of six models, counts its metrics, and sends the
last byte of an answer once its rows are on the disk. LiteLLM checks a master key and has no database. TensorZero runs on one thread, checks no key and stores
nothing.

The contestants take turns, round by round; a figure is the median over the rounds (lowest to highest in brackets), a
ratio the median of the rounds' own ratios. CPU is user and system time of the server's processes from `/proc`: a busy
machine changes it far less than latencies and requests per second, of which the generator and the upstream
take their share too where there are few cores. Added latency is the median over pairs of a request sent directly and one
sent through. In the paced streams 32 clients each get 64 chunks at intervals of 20 ms; a chunk is on time if it reaches the
client within 5 ms of being written by the upstream; who waits for the whole answer first has no CPU per stream. Bars
are of the column where the policy decides."""


def kept(page: str) -> str:
    """What people wrote below an earlier page, which a new one keeps: all from the heading READING on."""
    _, heading, text = page.partition(f"\n{READING}\n")
    return heading + text


def _cell(values: Sequence[float], row: Row) -> str:
    if not values:
        return "–"
    found = summary([value * row.scale for value in values])
    text = f"{found.median:.{row.digits}f}"
    if found.rounds > 1:
        text += f" ({found.low:.{row.digits}f}–{found.high:.{row.digits}f})"
    return text


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
