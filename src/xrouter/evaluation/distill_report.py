"""Writes down what distilling kept and lost: distill.md for people, distill.json for programs, distill.png and .svg."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .decision_time import DecisionTime
from .imitation import Agreement, Difference
from .result import Evaluation, Result
from .tables import NONE, number, per_1000, table, with_interval

TEACHER = "teacher"
STUDENT = "student"
PROFILES = "profiles alone"


@dataclass(frozen=True, eq=False)
class DistillReport:
    """evaluation: `teacher`, `student`, `profiles alone` and, where one was given, a network policy beside them.

    agreement, difference: with the teacher, by name. times: of first decisions, by name; the language model's own are in
    its result. learnt: what imitation says of itself.
    """

    evaluation: Evaluation
    teacher: str
    agreement: Mapping[str, Agreement]
    difference: Mapping[str, tuple[Difference, ...]]
    times: Mapping[str, DecisionTime]
    learnt: Mapping[str, Any]

    def result(self, name: str) -> Result:
        found = self.evaluation.named(name)
        assert found is not None
        return found


def markdown(report: DistillReport, command: str) -> str:
    s = report.evaluation.setting
    drawn = f", out of {s.drawn_from}" if s.drawn_from else ""
    if s.without_reference:
        drawn += f" ({s.without_reference} more have no reference to grade own words against)"
    learnt = report.learnt
    parts = [
        f"# Distilled on {s.outcomes}",
        f"    {command}",
        f"Teacher: {report.teacher}. It decided on {learnt['queries']} queries of the train split at "
        f"{learnt['cost_weights']} cost weights; {learnt['episodes']} episodes were learnt from. Judged on {s.queries} "
        f"queries of the test split{drawn}, {len(s.pool)} models. 95% bootstrap intervals, {s.bootstrap} resamples of "
        f"the queries, seed {s.seed}.",
        "## What was learnt from",
        table(
            ("what", "value"),
            [
                *((why, str(count)) for why, count in learnt["left_out"].items() if count),
                ("choices of the network's", str(learnt["choices"])),
                ("episodes with a call that its rules forbid", str(learnt["unreachable"])),
                ("epochs", str(learnt["epochs"])),
                ("held-out choices as the teacher's", _share(learnt["validation_agreement"])),
            ],
            "lr",
        ),
        "## The same decisions?",
        "Shares of the test queries, over all cost weights together. first: the same models in the first turn. calls: the same "
        "models called in all. answer: the same model's answer handed over. all: every turn and the answer.",
        table(
            ("policy", "first", "calls", "answer", "all"),
            [
                (name, *(with_interval(value) for value in (a.first, a.calls, a.answer, a.all)))
                for name, a in report.agreement.items()
            ],
            "lrrrr",
        ),
        "## Quality and cost",
        _points(report),
        "Less the teacher, query by query:",
        table(
            ("policy", "lambda", "score", "$ per 1000"),
            [
                (name, f"{one.cost_weight:g}", with_interval(one.score, sign=True), _money(one))
                for name, rows in report.difference.items()
                for one in rows
            ],
            "lrrr",
        ),
        "![Score over cost](distill.png)",
        "## A decision",
        "ms: median of a first decision on one thread, text features included, in processor time; of a language model the "
        "time that passes until a reply. $: the tokens of all its decisions on a query.",
        table(("policy", "ms", "$ per 1000 queries"), _decision_rows(report), "lrr"),
    ]
    return "\n\n".join(parts) + "\n"


def as_json(report: DistillReport, command: str) -> dict[str, Any]:
    """Plain values; NaN is null. Money in US dollars a query."""
    from .report import as_json as evaluation_json

    found = {
        **evaluation_json(report.evaluation, command),
        "teacher": report.teacher,
        "learnt": dict(report.learnt),
        "agreement": {name: asdict(one) for name, one in report.agreement.items()},
        "difference": {name: [asdict(one) for one in rows] for name, rows in report.difference.items()},
        "decision_ms": {name: asdict(one) for name, one in report.times.items()},
    }
    plain: dict[str, Any] = _plain(found)
    return plain


def write(report: DistillReport, folder: Path, command: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draw(report, folder / "distill")
    (folder / "distill.md").write_text(markdown(report, command), encoding="utf-8")
    text = json.dumps(as_json(report, command), indent=1, allow_nan=False)
    (folder / "distill.json").write_text(text + "\n", encoding="utf-8")


def draw(report: DistillReport, path: Path) -> None:
    """Score over cost at the teacher's cost weights; best and the cheapest model as dots."""
    from .plots import COLOURS, GREY, SIZE, new_figure

    with new_figure(path, SIZE) as figure:
        axes = figure.add_subplot()
        for i, name in enumerate(report_names(report)):
            points = report.result(name).points
            order = np.argsort([point.cost_usd.value for point in points])
            x = [points[j].cost_usd.value * 1000 for j in order]
            y = [points[j].score.value for j in order]
            errors = np.array(
                [[max(p.score.value - p.score.low, 0), max(p.score.high - p.score.value, 0)] for p in points]
            )[order].T
            axes.errorbar(
                x, y, np.nan_to_num(errors), marker="o", ms=4, lw=1.8, capsize=2, label=name,
                color=COLOURS[i % len(COLOURS)],
            )  # fmt: skip
        for single in report.evaluation.of_kind("single"):
            point = single.points[0]
            axes.scatter([point.cost_usd.value * 1000], [point.score.value], color=GREY, s=28, zorder=3)
            axes.annotate(
                single.name, (point.cost_usd.value * 1000, point.score.value), (6, -10),
                textcoords="offset points", fontsize=8, color=GREY,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_xlabel("US dollars per 1000 queries")
        axes.set_ylabel("mean score")
        s = report.evaluation.setting
        axes.set_title(f"{s.outcomes}, test split, {s.queries} queries (bars: 95%)", loc="left")
        axes.legend(loc="lower right", frameon=False)


def report_names(report: DistillReport) -> list[str]:
    """Teacher first, then everyone who is held against it."""
    return [TEACHER, *report.agreement]


def _points(report: DistillReport) -> str:
    rows = []
    for name in report_names(report):
        for point in report.result(name).points:
            rows.append(
                (
                    f"**{name}**" if name == STUDENT else name,
                    f"{point.cost_weight:g}",
                    with_interval(point.score),
                    f"{per_1000(point.cost_usd.value)} [{per_1000(point.cost_usd.low)}, {per_1000(point.cost_usd.high)}]",
                    f"{point.calls_per_query:.2f}",
                )
            )
    for single in report.evaluation.of_kind("single"):
        point = single.points[0]
        rows.append((single.name, NONE, with_interval(point.score), per_1000(point.cost_usd.value), "1.00"))
    return table(("policy", "lambda", "score", "$ per 1000", "calls"), rows, "lrrrr")


def _decision_rows(report: DistillReport) -> Sequence[tuple[str, str, str]]:
    rows = []
    for name in report_names(report):
        result = report.result(name)
        ms = NONE
        if result.router:
            ms = f"{float(np.mean([one.seconds for one in result.router])) * 1000:.0f}"
        elif name in report.times:
            ms = f"{report.times[name].cpu_ms:.2g}"
        own = None if result.decisions is None else result.decisions.own
        rows.append((name, ms, "0" if own is None else per_1000(float(own.cost_WQ.mean()))))
    return rows


def _money(one: Difference) -> str:
    def signed(value: float) -> str:
        return NONE if value != value else f"{value * 1000:+.3g}"

    cost = one.cost_usd
    return f"{signed(cost.value)} [{signed(cost.low)}, {signed(cost.high)}]"


def _share(value: float) -> str:
    return NONE if value != value else number(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value != value:
        return None
    return value
