"""Writes a benchmark down: bench.md for people, bench.json for programs, frontier.png and .svg."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .bench import COST_WEIGHT, Bench
from .bootstrap import Interval
from .decision_time import POOL, QUERY_TOKENS, DecisionTime
from .evaluate import PERCENTS
from .metrics import frontier
from .report import as_json

NONE = "–"
TIMES = ("CPU ms", "ms", "ms at p95", "CPU against kNN's")
NAMES = {
    "static": "static best",
    "knn": "kNN",
    "cluster": "best model per cluster",
    "cascade": "agreement cascade",
    "knn + cascade": "kNN and cascade together",
    "all singles": "all single models",
}


def markdown(bench: Bench, command: str) -> str:
    s = bench.evaluation.setting
    lines = [
        f"# Benchmark on {s.outcomes}",
        f"    {command}",
        f"{s.queries} test queries, {len(s.pool)} models; everything is fitted on the {s.train_queries} queries of "
        f"train. best: {s.best}, {s.best_score:.3f}, ${s.best_cost_usd * 1000:.2f} per 1000 queries. 95% bootstrap "
        f"intervals, {s.bootstrap} resamples, seed {s.seed}.",
        quality_table(bench),
        "![Score over cost](frontier.png)",
        "## Fit and decision time",
        "Fit: seconds of processor time of one fit, embeddings not counted. Decision: the first decision on a query of the set, "
        f"one at a time on one thread, text features included, at lambda {COST_WEIGHT:g}, everyone in turn on each query. "
        "CPU ms: median of the processor time, which other work on the machine hardly changes; ms: median of the "
        "time that passed.",
        time_table(bench),
        f"Queries of {QUERY_TOKENS} tokens over a pool of {POOL}:",
        _table(
            ("policy", *TIMES),
            [
                (NAMES.get(name, name), *_times(time), _ratio(time, bench.long_times["knn"]))
                for name, time in bench.long_times.items()
            ],
        ),
    ]
    return "\n\n".join(lines) + "\n"


def quality_table(bench: Bench) -> str:
    rows = []
    for result in bench.shown:
        summary = result.summary
        name = NAMES.get(result.name, result.name)
        rows.append(
            (
                f"**{name}**" if result.name in bench.ours else name,
                _interval(summary.max_score, 3),
                *(_interval(summary.saving[percent], 2) for percent in PERCENTS),
                _interval(summary.area, 3),
                bench.knobs.get(result.name, ""),
            )
        )
    head = ("policy", "max score", *(f"save@{p}" for p in PERCENTS), "area", "how lambda was given to it")
    return _table(head, rows, last="---")


def time_table(bench: Bench) -> str:
    rows = [
        (
            f"**{name}**" if name in bench.ours else NAMES.get(name, name),
            NONE if math.isnan(bench.fit_s[name]) else _short(bench.fit_s[name]),
            *_times(time),
            _ratio(time, bench.times["knn"]),
            str(time.queries),
        )
        for name, time in bench.times.items()
    ]
    return _table(("policy", "fit s", *TIMES, "queries"), rows)


def write(bench: Bench, folder: Path, command: str) -> None:
    """Writes bench.md, bench.json and the picture into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    draw(bench, folder / "frontier")
    (folder / "bench.md").write_text(markdown(bench, command), encoding="utf-8")
    found = {
        **as_json(bench.evaluation, command),
        "ours": list(bench.ours),
        "peers": list(bench.peers),
        "knobs": dict(bench.knobs),
        "fit_s": {name: None if math.isnan(value) else value for name, value in bench.fit_s.items()},
        "decision_ms": _plain(bench.times),
        "decision_ms_long": _plain(bench.long_times),
    }
    text = json.dumps(found, indent=1, allow_nan=False)
    (folder / "bench.json").write_text(text + "\n", encoding="utf-8")


def draw(bench: Bench, path: Path) -> None:
    """The frontier of everyone, path.png and path.svg; ours in bold."""
    import matplotlib as mpl
    import numpy as np
    from matplotlib.figure import Figure

    from .plots import DPI, SIZE, STYLE

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        colours = mpl.colormaps["tab20"].colors  # type: ignore[attr-defined]
        for i, result in enumerate(r for r in bench.shown if r.kind != "union"):
            cost = np.array([point.cost_usd.value for point in result.points]) * 1000
            score = np.array([point.score.value for point in result.points])
            best = frontier(score, cost)
            ours = result.name in bench.ours
            axes.plot(
                cost[best],
                score[best],
                label=NAMES.get(result.name, result.name),
                color="#111111" if result.kind == "oracle" else colours[i % len(colours)],
                linewidth=2.6 if ours else 1.2,
                linestyle="-" if ours or result.name in bench.peers else ":",
                marker="o",
                markersize=4 if ours else 2.5,
                zorder=3 if ours else 2,
            )
        axes.set_xscale("log")
        axes.set_xlabel("US dollars per 1000 queries")
        axes.set_ylabel("mean score")
        s = bench.evaluation.setting
        axes.set_title(f"{s.outcomes}, test split, {s.queries} queries", loc="left")
        axes.legend(fontsize=8, frameon=False, loc="lower right")
        figure.savefig(path.with_suffix(".png"), dpi=DPI, metadata={"Software": None})
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], last: str = "---:") -> str:
    rule = ("---", *("---:" for _ in head[2:]), last)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rows))


def _times(time: DecisionTime) -> tuple[str, ...]:
    return tuple(_short(ms) for ms in (time.cpu_ms, time.median_ms, time.p95_ms))


def _ratio(time: DecisionTime, reference: DecisionTime) -> str:
    return _short(time.cpu_ms / max(reference.cpu_ms, 1e-6))


def _short(value: float) -> str:
    """Two digits or, from 10, none after the point."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _interval(value: Interval, digits: int) -> str:
    if math.isnan(value.value):
        return NONE
    low, high = (
        NONE if math.isnan(b) else f"{round(b, digits) + 0.0:.{digits}f}" for b in (value.low, value.high)
    )
    return f"{round(value.value, digits) + 0.0:.{digits}f} [{low}, {high}]"


def _plain(times: Mapping[str, DecisionTime]) -> dict[str, Any]:
    return {name: asdict(time) for name, time in times.items()}
