"""Writes an evaluation down: report.md for people, report.json for programs. The same evaluation gives the same bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from .evaluate import PERCENTS
from .forms_report import forms
from .result import DatasetRow, Evaluation, Point, Result
from .router_report import router_figures
from .tables import number, per_1000, table, with_interval

_TITLES = {
    "max": "the point with the highest score",
    **{str(p): f"the cheapest point at {p}% of best's score" for p in PERCENTS},
}


def markdown(evaluation: Evaluation, command: str, figures: Mapping[str, str] | None = None) -> str:
    """`figures`: captions of pictures by their path relative to the report."""
    s = evaluation.setting
    judged = evaluation.judged
    names = ", ".join(result.name for result in judged) or "The baselines"
    parts = [
        f"# {names} on {s.outcomes}, split {s.split}",
        f"    {command}",
        table(
            ("what", "value"),
            [
                *((result.name, f"version {result.version}") for result in judged),
                ("queries", f"{s.queries} ({s.split}); baselines are fitted on {s.train_queries} of train"),
                *(
                    [
                        (
                            "drawn",
                            f"at random from {s.drawn_from} of the split, seed {s.seed}, for everyone alike",
                        )
                    ]
                    if s.drawn_from
                    else []
                ),
                *(
                    [
                        (
                            "left out",
                            f"{s.without_reference} queries without a reference to grade own words against",
                        )
                    ]
                    if s.without_reference
                    else []
                ),
                ("datasets", ", ".join(s.datasets)),
                ("pool", f"{len(s.pool)} models: {', '.join(s.pool)}"),
                *(
                    [("not judged alone", f"{', '.join(s.left_out)}: no outcome for over 10% of the queries")]
                    if s.left_out
                    else []
                ),
                (
                    "best",
                    f"{s.best}: highest train score; {s.best_score:.3f}, ${per_1000(s.best_cost_usd)} per 1000 queries",
                ),
                ("cheapest", f"{s.cheapest}: ${per_1000(s.cheapest_cost_usd)} per 1000 queries"),
                ("turns", f"at most {s.max_turns}"),
                ("intervals", f"95%, {s.bootstrap} resamples of the queries, seed {s.seed}"),
            ],
            "ll",
        ),
        "Every call is charged, also those whose answer was not used. save@p: saved against best's cost at the "
        "cheapest point whose score is at least p% of best's. area: mean of the highest score affordable over 50 "
        "log-spaced budgets from the cheapest model's cost to best's.",
        "## All policies",
        _summaries(evaluation.results),
    ]
    parts += [f"![{caption}]({path})" for path, caption in (figures or {}).items()]
    for result in judged:
        parts += _policy(result)
    return "\n\n".join(parts) + "\n"


def as_json(evaluation: Evaluation, command: str) -> dict[str, Any]:
    """Plain values; NaN is null. Money in US dollars a query. Decisions are left to decisions.jsonl."""
    return {
        "command": command,
        "setting": _plain(evaluation.setting),
        "results": [_result(result) for result in evaluation.results],
    }


def write(
    evaluation: Evaluation, folder: Path, command: str, figures: Mapping[str, str] | None = None
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(markdown(evaluation, command, figures), encoding="utf-8")
    text = json.dumps(as_json(evaluation, command), indent=1, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")


def _policy(result: Result) -> list[str]:
    parts = [
        f"## {result.name}: the sweep",
        "asked: share of the queries on which a model was called. recall failure: a pool model was right and none "
        "that was right was asked. selection failure: one that was right was asked, a wrong answer was handed over. "
        "ECE: expected calibration error of the stated confidence.",
        table(
            (
                "lambda",
                "score",
                "$ per 1000",
                "calls",
                "recall f.",
                "selection f.",
                "ECE",
                "asked most",
                "answered most",
            ),
            [_point(point) for point in result.points],
            "rrrrrrrll",
        ),
        f"## {result.name}: by dataset",
    ]
    for label, rows in result.datasets.items():
        parts += [f"At {_TITLES[label]}:", _datasets(rows)]
    parts += router_figures(result)
    parts += _calibration(result)
    parts += forms(result)
    return parts


def _calibration(result: Result) -> list[str]:
    bins = result.reliability
    if bins is None or not bins.count.sum():
        return [f"## {result.name}: calibration", "It states no confidence."]
    rows = [
        (f"{low:.1f}–{high:.1f}", str(int(n)), number(confidence), number(score))
        for low, high, n, confidence, score in zip(
            bins.edges, bins.edges[1:], bins.count, bins.confidence, bins.score, strict=False
        )
    ]
    return [
        f"## {result.name}: calibration",
        f"Expected calibration error over all points together: {bins.error:.3f}. It called {result.outside_training:.1%} "
        "of the queries unlike all that it was trained on.",
        table(("confidence", "answers", "mean confidence", "mean score"), rows, "lrrr"),
    ]


def _summaries(results: Iterable[Result]) -> str:
    rows = []
    for result in results:
        s = result.summary
        only = f" (${per_1000(result.points[0].cost_usd.value)} per 1000)" if len(result.points) == 1 else ""
        rows.append(
            (
                f"**{result.name}**" if result.kind == "policy" else result.name + only,
                result.kind,
                with_interval(s.max_score),
                with_interval(s.gain, sign=True),
                *(with_interval(s.saving[p], digits=2) for p in PERCENTS),
                with_interval(s.area),
            )
        )
    head = ("policy", "kind", "max score", "gain", *(f"save@{p}" for p in PERCENTS), "area")
    return table(head, rows, "llrrrrrr")


def _point(point: Point) -> tuple[str, ...]:
    return (
        f"{point.cost_weight:g}",
        with_interval(point.score),
        f"{per_1000(point.cost_usd.value)} [{per_1000(point.cost_usd.low)}, {per_1000(point.cost_usd.high)}]",
        f"{point.calls_per_query:.2f}",
        f"{point.failures.recall:.1%}",
        f"{point.failures.selection:.1%}",
        number(point.calibration_error),
        _top(point.asked),
        _top(point.answered),
    )


def _datasets(rows: Sequence[DatasetRow]) -> str:
    return table(
        ("dataset", "queries", "best's score", "score", "best's $ per 1000", "$ per 1000"),
        [
            (
                r.dataset,
                str(r.queries),
                number(r.best_score),
                number(r.score),
                per_1000(r.best_cost_usd),
                per_1000(r.cost_usd),
            )
            for r in rows
        ],
        "lrrrrr",
    )


def _top(shares: Mapping[str, float], count: int = 3) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in islice(shares.items(), count))


def _result(result: Result) -> dict[str, Any]:
    bins = result.reliability
    return {
        "name": result.name,
        "kind": result.kind,
        "version": result.version,
        "summary": _plain(result.summary),
        "outside_training": result.outside_training,
        "points": [] if result.kind == "union" else [_plain(point) for point in result.points],
        "datasets": _plain(result.datasets),
        "target_quality": _plain(result.targets),
        "max_cost_usd": _plain(result.caps),
        "router": _plain(result.router),
        "calibration": None
        if bins is None or not bins.count.sum()
        else {
            "error": bins.error,
            "edges": bins.edges.tolist(),
            "count": bins.count.tolist(),
            "confidence": _plain(bins.confidence.tolist()),
            "score": _plain(bins.score.tolist()),
        },
    }


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return None if math.isnan(value) else value
    return value
