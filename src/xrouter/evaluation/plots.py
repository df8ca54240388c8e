"""Pictures of an evaluation, each as PNG and SVG: the frontier, the route mix, the reliability of confidences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

from .metrics import frontier
from .result import JUDGED, Evaluation, Point, Result

SIZE = (9.5, 6.0)
DPI = 150
GREY = "#8a8f98"
COLOURS = ("#0b62d6", "#d1495b", "#7b2d8b", "#1b998b")
BASELINES = {
    "knn": ("#e08a00", "kNN"),
    "cascade": ("#2e8540", "agreement cascade"),
    "cluster": ("#a0522d", "best model of the cluster"),
    "static": ("#5c6ac4", "static best"),
    "oracle": ("#111111", "oracle (knows the scores)"),
}
SHOWN = ("knn", "cascade", "oracle")
TOP_MODELS = 8
DOT = 5.0
"""Radius of a dot, in pixels."""
FAR = 8
"""Points up or down from which a name gets a line to its dot."""
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e8eb",
    "svg.hashsalt": "xrouter",
    "svg.fonttype": "none",
}


def draw(evaluation: Evaluation, folder: Path) -> dict[str, str]:
    """Writes every picture into the folder. Returns the captions by file name of the PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    s = evaluation.setting
    captions = {"frontier.png": f"Score over cost on {s.outcomes}, split {s.split}"}
    with new_figure(folder / "frontier", SIZE) as figure:
        _frontier(figure, evaluation)
    for i, result in enumerate(evaluation.judged):
        suffix = "" if i == 0 else f"-{i + 1}"
        if sum(point.cost_weight > 0 for point in result.points) > 1:
            with new_figure(folder / f"routes{suffix}", (9.5, 6.8)) as figure:
                _routes(figure, result)
            captions[f"routes{suffix}.png"] = f"Models asked and answering, by lambda: {result.name}"
        if result.reliability is not None and result.reliability.count.sum():
            with new_figure(folder / f"reliability{suffix}", (5.6, 5.6)) as figure:
                _reliability(figure, result)
            captions[f"reliability{suffix}.png"] = f"Stated confidence against score: {result.name}"
    return captions


@contextmanager
def new_figure(path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    """A figure that is written as PNG and SVG when the block ends. Saved without dates or random ids, so that the same evaluation gives the same files."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        figure.savefig(path.with_suffix(".png"), dpi=DPI, metadata={"Software": None})
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def _frontier(figure: Figure, evaluation: Evaluation) -> None:
    s = evaluation.setting
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_xlabel("mean cost, US dollars per 1000 queries (every call charged)")
    axes.set_ylabel("mean score")
    axes.set_title(f"{s.outcomes}, split {s.split}: {s.queries} queries, {len(s.pool)} models", loc="left")

    singles = [result.points[0] for result in evaluation.of_kind("single")]
    names = [result.name for result in evaluation.of_kind("single")]
    axes.scatter(*_xy(singles), s=22, color=GREY, zorder=3, label="one model for everything")
    judged = {result.name.removesuffix(JUDGED) for result in evaluation.judged}
    for name in SHOWN:
        result = evaluation.named(name)
        if result is not None and result.kind in ("baseline", "oracle") and name not in judged:
            colour, label = BASELINES[name]
            _line(axes, result, colour, label, "--" if name == "oracle" else "-", 1.6)
    random = evaluation.named("random")
    if random is not None:
        axes.scatter(*_xy(random.points), marker="X", s=60, color="#c2185b", zorder=4, label="random model")
    for colour, result in zip(COLOURS, evaluation.judged, strict=False):
        best = [result.points[i] for i in _frontier_index(result)]
        x = [_per_1000(p) for p in best]
        axes.fill_between(
            x,
            [p.score.low for p in best],
            [p.score.high for p in best],
            color=colour,
            alpha=0.13,
            lw=0,
            zorder=1,
        )
        _line(axes, result, colour, f"{result.name} (band: 95%)", "-", 2.6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=30))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.06, y=0.06)
    axes.legend(loc="lower right", frameon=True, framealpha=0.92, edgecolor="none")
    _label(figure, axes, singles, names)


def _line(axes: Any, result: Result, colour: str, label: str, style: str, width: float) -> None:
    """The frontier as a line; the points that lie under it as faint dots."""
    index = _frontier_index(result)
    x, y = _xy([result.points[i] for i in index])
    axes.plot(x, y, style, color=colour, lw=width, marker="o", ms=3.5, label=label, zorder=5)
    x, y = _xy([p for i, p in enumerate(result.points) if i not in set(index)])
    axes.scatter(x, y, s=9, color=colour, alpha=0.35, lw=0, zorder=4)


def _label(figure: Figure, axes: Any, points: Sequence[Point], names: Sequence[str]) -> None:
    """Names beside the dots, each at the first of several places where it covers no name, dot or line already there.

    A name that fits nowhere is left out: the report's table has it.
    """
    figure.canvas.draw()
    to_pixels = axes.transData.transform
    taken = [axes.get_legend().get_window_extent()]
    dots = [tuple(to_pixels((x, y))) for x, y in zip(*_xy(points), strict=True)]
    obstacles = list(dots)
    for line in axes.get_lines():
        xy = to_pixels(np.column_stack(line.get_data()))
        steps = np.linspace(0.0, 1.0, 25)[:, None]
        obstacles += [tuple(p) for a, b in pairwise(xy) for p in a + steps * (b - a)]
    obstacles += [
        tuple(p) for dots_of in axes.collections for p in to_pixels(dots_of.get_offsets()) if len(p)
    ]
    frame = axes.get_window_extent()
    places = [
        (7, 0, "left"),
        (-7, 0, "right"),
        (5, 8, "left"),
        (5, -8, "left"),
        (-5, 8, "right"),
        (-5, -8, "right"),
    ]
    places += [
        (0, 11, "center"),
        (0, -11, "center"),
        (9, 16, "left"),
        (9, -16, "left"),
        (-9, -16, "right"),
        (-9, 16, "right"),
    ]
    order = sorted(range(len(points)), key=lambda i: -points[i].score.value)
    for i in order:
        dot = dots[i]
        for dx, dy, side in places:
            text = axes.annotate(
                names[i],
                (_per_1000(points[i]), points[i].score.value),
                (dx, dy),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=7,
                color="#4a4f57",
                zorder=6,
            )
            box = text.get_window_extent().expanded(1.01, 1.05)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            free = not any(box.overlaps(other) for other in taken)
            near = box.padded(DOT)
            if inside and free and not any(near.contains(*p) for p in obstacles if p != dot):
                taken.append(box)
                if abs(dy) > FAR:
                    _lead(axes, points[i], dx, dy)
                break
            text.remove()


def _lead(axes: Any, point: Point, dx: float, dy: float) -> None:
    """A thin line from a dot towards its name, which stands dx, dy points away."""
    axes.annotate(
        "",
        (_per_1000(point), point.score.value),
        (dx, dy - np.copysign(4.0, dy)),
        textcoords="offset points",
        arrowprops={"arrowstyle": "-", "lw": 0.6, "color": GREY, "shrinkA": 0, "shrinkB": 2},
        zorder=2,
    )


def _routes(figure: Figure, result: Result) -> None:
    points = [p for p in result.points if p.cost_weight > 0]
    x = [p.cost_weight for p in points]
    volume: dict[str, float] = {}
    for p in points:
        for name, share in p.asked.items():
            volume[name] = volume.get(name, 0.0) + share
    top = sorted(volume, key=lambda name: -volume[name])[:TOP_MODELS]
    shades = mpl.colormaps["tab20"]
    colours = [*(shades(2 * i) for i in range(len(top))), "#d0d3d8"]
    panels = figure.subplots(2, 1, sharex=True)
    for axes, title, shares in (
        (panels[0], "asked: mean calls a query", [p.asked for p in points]),
        (panels[1], "answer handed over: share of the queries", [p.answered for p in points]),
    ):
        axes.stackplot(x, *_stack(shares, top), colors=colours, labels=[*top, "all others"], lw=0)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xscale("log")
        axes.set_xlim(x[0], x[-1])
        axes.set_ylim(0)
    panels[1].yaxis.set_major_formatter(PercentFormatter(1.0))
    panels[1].set_ylim(0, 1)
    panels[1].set_xlabel("lambda (0 at the left of the axis is not shown)")
    figure.suptitle(f"{result.name}: which models are used as cost weighs more", x=0.01, ha="left")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right center", frameon=False, fontsize=9)


def _stack(shares: Sequence[Mapping[str, float]], top: Sequence[str]) -> list[list[float]]:
    rows = [[share.get(name, 0.0) for share in shares] for name in top]
    return [*rows, [sum(share.values()) - sum(share.get(name, 0.0) for name in top) for share in shares]]


def _reliability(figure: Figure, result: Result) -> None:
    bins = result.reliability
    assert bins is not None
    axes = figure.add_subplot()
    centre, width = (bins.edges[:-1] + bins.edges[1:]) / 2, np.diff(bins.edges)
    share = bins.count / bins.count.sum()
    axes.bar(centre, share, width * 0.94, color="#dfe3e8", label="share of the answers", zorder=1)
    axes.plot([0, 1], [0, 1], "--", color=GREY, lw=1.2, label="perfectly calibrated", zorder=2)
    known = bins.count > 0
    axes.plot(
        bins.confidence[known], bins.score[known], "o-", color=COLOURS[0], lw=2, label="mean score", zorder=3
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.set_xlabel("stated probability that the answer is right")
    axes.set_ylabel("mean score; share of the answers")
    axes.set_title(f"{result.name}: calibration error {bins.error:.3f}, all points", loc="left")
    axes.legend(loc="upper left", frameon=True, framealpha=0.92, edgecolor="none")


def _frontier_index(result: Result) -> list[int]:
    score = np.array([p.score.value for p in result.points])
    cost = np.array([p.cost_usd.value for p in result.points])
    return [int(i) for i in frontier(score, cost)]


def _xy(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [_per_1000(p) for p in points], [p.score.value for p in points]


def _per_1000(point: Point) -> float:
    return point.cost_usd.value * 1000
