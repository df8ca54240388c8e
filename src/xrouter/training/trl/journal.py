"""A run's figures on disk: one JSON object a line, and the curve of them as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FILE = "metrics.jsonl"
PICTURE = "learning_curve.png"
PANELS: Sequence[tuple[str, Sequence[str]]] = (
    ("reward of an episode", ("reward", "validation/reward")),
    ("quality", ("quality", "validation/quality")),
    ("cost, USD an episode", ("cost_usd", "validation/cost_usd")),
    ("calls and turns an episode", ("calls", "turns")),
    ("problems a reply, groups dropped", ("invalid_rate", "groups_dropped")),
    ("entropy, nats a token", ("entropy",)),
)


class Journal:
    """Appends to `metrics.jsonl`. resume_at: lines of later steps are dropped, for those steps are run again."""

    def __init__(self, folder: Path, *, resume_at: int | None = None) -> None:
        self.path = folder / FILE
        if resume_at is not None and self.path.exists():
            kept = [row for row in read_journal(folder) if row.get("step", 0) <= resume_at]
            self.path.write_text("".join(_line(row) for row in kept), encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(row))


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """Empty where nothing was trained."""
    path = folder / FILE
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def draw_curve(folder: Path) -> Path:
    """The picture of the journal's steps of reinforcement learning, each figure as it is and as a running mean."""
    from matplotlib.figure import Figure

    rows = [row for row in read_journal(folder) if "step" in row]
    figure = Figure(figsize=(11, 9), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(3, 2).flat, PANELS, strict=True):
        for name in names:
            points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            if name.startswith("validation/"):
                axes.plot(steps, values, "o-", label=name, markersize=3)
            else:
                line = axes.plot(steps, values, alpha=0.25)[0]
                axes.plot(steps, _running_mean(values), color=line.get_color(), label=name)
        axes.set_title(title)
        axes.set_xlabel("step")
        if axes.lines:
            axes.legend(fontsize="small")
    path = folder / PICTURE
    figure.savefig(path, dpi=110)
    return path


def _running_mean(values: Sequence[float], keep: float = 0.9) -> list[float]:
    """Exponential, without the bias of its start (Kingma and Ba 2015, section 3)."""
    smooth, out = 0.0, []
    for i, value in enumerate(values, start=1):
        smooth = keep * smooth + (1 - keep) * value
        out.append(smooth / (1 - keep**i))
    return out


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(dict(row)) + "\n"
