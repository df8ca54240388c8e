"""Pictures of a target quality (asked against achieved) and of a cost cap (score over the cap)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from .plots import COLOURS, GREY, new_figure
from .result import CapPoint, Evaluation, Result, TargetPoint


def draw_forms(evaluation: Evaluation, folder: Path) -> dict[str, str]:
    """Writes the pictures of what was played into the folder. Returns the captions by file name of the PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    captions = {}
    for i, result in enumerate(evaluation.judged):
        suffix = "" if i == 0 else f"-{i + 1}"
        if result.targets:
            with new_figure(folder / f"target-quality{suffix}", (5.6, 5.6)) as figure:
                _targets(figure, result)
            captions[f"target-quality{suffix}.png"] = f"Quality asked for and achieved: {result.name}"
        if result.caps:
            with new_figure(folder / f"cost-cap{suffix}", (7.5, 5.0)) as figure:
                _caps(figure, result, evaluation.setting.best_score, evaluation.setting.best)
            captions[f"cost-cap{suffix}.png"] = f"Score over the cap on each query's cost: {result.name}"
    return captions


def _targets(figure: Figure, result: Result) -> None:
    points = result.targets
    asked = [point.target_quality for point in points]
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], "--", color=GREY, lw=1.2, label="asked = achieved")
    _band(axes, asked, points)
    axes.plot(asked, [point.confidence for point in points], "s:", color=COLOURS[1], label="mean confidence")
    low = min([*asked, *(point.score.value for point in points), *(point.confidence for point in points)])
    axes.set_xlim(max(0.0, low - 0.05), 1)
    axes.set_ylim(max(0.0, low - 0.05), 1)
    axes.set_aspect("equal")
    axes.set_xlabel("target quality asked for")
    axes.set_ylabel("achieved, answers that say they fall short included")
    axes.set_title(result.name, loc="left")
    axes.legend(loc="upper left", frameon=True, framealpha=0.92, edgecolor="none")


def _caps(figure: Figure, result: Result, best_score: float, best: str) -> None:
    points = result.caps
    axes = figure.add_subplot()
    axes.axhline(best_score, ls="--", color=GREY, lw=1.2, label=f"{best} for everything")
    _band(axes, [point.max_cost_usd for point in points], points)
    axes.set_xscale("log")
    axes.set_xlabel("cap on a query's cost, US dollars")
    axes.set_ylabel("mean score")
    axes.set_title(result.name, loc="left")
    axes.legend(loc="lower right", frameon=True, framealpha=0.92, edgecolor="none")


def _band(axes: Any, x: Sequence[float], points: Sequence[TargetPoint] | Sequence[CapPoint]) -> None:
    low, high = [point.score.low for point in points], [point.score.high for point in points]
    axes.fill_between(x, low, high, color=COLOURS[0], alpha=0.13, lw=0)
    axes.plot(
        x,
        [point.score.value for point in points],
        "o-",
        color=COLOURS[0],
        lw=2,
        label="mean score (band: 95%)",
    )
