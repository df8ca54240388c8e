"""Pictures of a data set: pass rates in their bands, models in the pools, lengths of the prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ...catalog.model import TIERS
from .build import Built, Written
from .recipe import Recipe

DPI = 150
COLOURS = ("#0b62d6", "#e08a00", "#2e8540", "#8a8f98", "#7b2d8b", "#d1495b")
MOST_MODELS = 60
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e8eb",
}


def draw(built: Built, recipe: Recipe, folder: Path) -> dict[str, str]:
    """Writes the pictures as PNG. Returns the captions by file name."""
    captions: dict[str, str] = {}
    samples = built.samples
    bands = _bands(samples, recipe)
    rated = [one for one in samples if one.pass_rate is not None]
    if rated:
        with _figure(folder / "bands.png", (8.0, 4.2)) as figure:
            _draw_rates(figure, rated, bands)
        captions["bands.png"] = "Samples by the pass rate of their question"
    models = len({model.name for one in samples for model in one.models})
    with _figure(folder / "models.png", (8.0, 1.2 + 0.22 * min(models, MOST_MODELS))) as figure:
        _draw_models(figure, samples)
    captions["models.png"] = "In how many samples each model can be called"
    with _figure(folder / "pools.png", (8.0, 3.6)) as figure:
        _draw_sizes(figure, samples)
    captions["pools.png"] = "Samples by the number of models in their pool"
    with _figure(folder / "tokens.png", (8.0, 4.2)) as figure:
        _draw_tokens(figure, samples, bands, recipe.max_prompt_tokens)
    captions["tokens.png"] = "Samples by the length of their prompt, tools included"
    return captions


@contextmanager
def _figure(path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        figure.savefig(path, dpi=DPI, metadata={"Software": None})


def _bands(samples: Sequence[Written], recipe: Recipe) -> list[str]:
    """The bands there are, in the recipe's order."""
    there = {one.band for one in samples}
    named = [band.name for band in (*recipe.bands, recipe.trivial) if band.name in there]
    return named + sorted(there - set(named))


def _draw_rates(figure: Figure, samples: Sequence[Written], bands: Sequence[str]) -> None:
    axes = figure.add_subplot()
    there = [band for band in bands if any(one.band == band for one in samples)]
    axes.hist(
        [[one.pass_rate or 0.0 for one in samples if one.band == band] for band in there],
        bins=list(np.linspace(-0.025, 1.025, 22)),
        stacked=True,
        label=there,
        color=_colours(there, bands),
        edgecolor="white",
    )
    axes.set_xlabel("pass rate of the reference models")
    axes.set_ylabel("samples")
    axes.set_xlim(-0.03, 1.03)
    axes.legend(frameon=False)


def _draw_models(figure: Figure, samples: Sequence[Written]) -> None:
    axes = figure.add_subplot()
    uses = Counter(model for one in samples for model in one.models)
    most_used = sorted(uses, key=lambda model: (-uses[model], model.name))[:MOST_MODELS]
    shown = sorted(most_used, key=lambda model: (TIERS.index(model.tier), -uses[model], model.name))
    colour = dict(zip(TIERS, COLOURS, strict=False))
    axes.barh(
        [model.name for model in shown],
        [uses[model] for model in shown],
        color=[colour[model.tier] for model in shown],
    )
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", labelsize=8, length=0)
    cut = len(uses) - len(shown)
    axes.set_xlabel("samples" + (f" (the {cut} models in the fewest are not shown)" if cut else ""))
    tiers = [tier for tier in TIERS if any(model.tier == tier for model in shown)]
    handles = [Patch(color=colour[tier], label=tier) for tier in tiers]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(tiers), frameon=False)


def _draw_sizes(figure: Figure, samples: Sequence[Written]) -> None:
    axes = figure.add_subplot()
    sizes = Counter(len(one.models) for one in samples)
    axes.bar(list(sizes), list(sizes.values()), color=COLOURS[0])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("models in the pool")
    axes.set_ylabel("samples")


def _draw_tokens(figure: Figure, samples: Sequence[Written], bands: Sequence[str], limit: int) -> None:
    axes = figure.add_subplot()
    lengths = [[one.prompt_tokens for one in samples if one.band == band] for band in bands]
    every = [length for of_band in lengths for length in of_band]
    low, high = min(every) * 0.95, max(every) * 1.05
    axes.hist(
        lengths,
        bins=list(np.geomspace(low, high, 31)),
        stacked=True,
        label=list(bands),
        color=_colours(bands, bands),
        edgecolor="white",
    )
    axes.set_xscale("log")
    ticks = [
        tick
        for base in (100, 1_000, 10_000)
        for k in (1, 1.5, 2, 3, 5, 7)
        if low <= (tick := round(base * k)) <= high
    ]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    if limit <= high * 2:
        axes.axvline(limit, color="#d1495b", linewidth=1, label=f"limit: {limit:,}")
    axes.set_xlabel("tokens of the prompt (logarithmic)")
    axes.set_ylabel("samples")
    axes.legend(frameon=False)


def _colours(there: Sequence[str], bands: Sequence[str]) -> list[str]:
    return [COLOURS[bands.index(band) % len(COLOURS)] for band in there]
