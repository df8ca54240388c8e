"""The options of `xrouter dataset build` as a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from .collect import dollars

if TYPE_CHECKING:
    from ..training.dataset.recipe import LiveLimits, Recipe


def recipe_of(
    file: Path | None,
    sources: Sequence[str],
    outcomes: Sequence[Path],
    reference_models: str | None,
    pool: str | None,
    seed: int | None,
) -> Recipe:
    """The file's values with the options over them. Raises ConfigurationError naming what does not fit."""
    from ..toml_reader import Reader
    from ..training.dataset.recipe import Recipe
    from ..training.dataset.recipe_file import load_recipe, read_recipe

    recipe = Recipe() if file is None else load_recipe(file)
    further = [_source(spec) for spec in sources] + [{"outcomes": str(folder)} for folder in outcomes]
    given: dict[str, Any] = {"sources": further} if further else {}
    if seed is not None:
        given["seed"] = seed
    read = read_recipe(Reader("the command line", given))
    recipe = replace(
        recipe,
        sources=(*recipe.sources, *read.sources),
        seed=recipe.seed if seed is None else read.seed,
    )
    if reference_models is not None:
        recipe = replace(recipe, reference=replace(recipe.reference, models=_names(reference_models)))
    if pool is not None:
        chosen: str | tuple[str, ...] = pool if pool in ("catalog", "outcomes") else _names(pool)
        recipe = replace(recipe, pools=replace(recipe.pools, models=chosen))
    return recipe


def _source(spec: str) -> dict[str, Any]:
    name, equals, count = spec.rpartition("=")
    if not equals:
        return {"tasks": spec}
    if not count.isdecimal() or not name:
        raise ConfigurationError(
            f"--source must be FILE.parquet, FILE.jsonl or NAME=N such as arithmetic=500, got {spec!r}",
            param="source",
        )
    return {"tasks": name, "n": int(count)}


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ConfigurationError(f"names of models with commas between are wanted, got {text!r}")
    return names


def limits_of(live: bool, max_cost_usd: str | None, concurrency: int) -> LiveLimits | None:
    """None where nobody may be asked. Raises ConfigurationError where only one of the two options is given."""
    from ..training.dataset.recipe import LiveLimits

    if not live:
        if max_cost_usd is not None:
            raise ConfigurationError(
                "--max-cost-usd allows nothing by itself: models are asked with --live only"
            )
        return None
    if max_cost_usd is None:
        raise ConfigurationError("--live spends money: say how much at most with --max-cost-usd")
    return LiveLimits(dollars(max_cost_usd), concurrency)
