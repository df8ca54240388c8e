"""The pool of one sample: a named set, or so many models of each tier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from ...catalog.catalog import Catalog
from ...catalog.model import TIERS, Model
from ...errors import ConfigurationError
from ...settings import Settings
from .gather import Gathered
from .question import Question
from .recipe import Pools

BY_TIER = "by tier"


@dataclass(frozen=True, slots=True)
class DrawnPool:
    """name: of the set, or "by tier". models: in the order in which their tools are shown."""

    name: str
    models: tuple[Model, ...]


def candidates(pools: Pools, gathered: Gathered, settings: Settings, catalog: Catalog) -> dict[str, Model]:
    """Every model a pool may have, by name. Nobody is called and no key is needed.

    Raises ConfigurationError where there is none, or a set names one that is not there; ModelNotFoundError for a name
    that the catalog does not have.
    """
    if pools.models == "outcomes":
        found = dict(gathered.recorded)
        if not found:
            raise ConfigurationError(
                'pools.models = "outcomes" needs recorded outcomes: add a source with outcomes, or --outcomes',
                param="pools.models",
            )
    else:
        names = settings.pool if pools.models == "catalog" else pools.models
        if names is None or isinstance(names, str):
            names = tuple(
                name
                for name, entry in catalog.entries.items()
                if entry.automatic and catalog.endpoint_of(name).kind in ("openai", "litellm")
            )
        found = {name: catalog[name] for name in names if catalog[name].kind == "chat"}
    if not found:
        raise ConfigurationError("pools.models names no chat model: a pool needs one", param="pools.models")
    for name, members in pools.sets.items():
        missing = [member for member in members if member not in found]
        if missing:
            raise ConfigurationError(
                f"pools.sets.{name} names {missing[0]!r}, which is not among the models of the pools; there are "
                f"{', '.join(found)}",
                param=f"pools.sets.{name}",
            )
    return found


def short_tiers(pools: Pools, models: Mapping[str, Model]) -> list[str]:
    """What cannot be drawn as asked, in words: tiers with fewer models than the least of them."""
    if pools.set_share == 1:
        return []
    return [
        f"pools.tiers.{tier} asks for at least {pools.tiers[tier][0]}, but there are {there}: pools have fewer"
        for tier in TIERS
        if (there := sum(model.tier == tier for model in models.values())) < pools.tiers[tier][0]
    ]


def draw_pool(question: Question, models: Mapping[str, Model], pools: Pools, rng: Random) -> DrawnPool | None:
    """None where the question has recorded answers of none of the models drawn from.

    A tier with fewer models than asked for gives all it has. The order is drawn too, so that no place in the list
    means anything.
    """
    there = [
        model
        for name, model in models.items()
        if pools.models != "outcomes" or question.recorded is None or name in question.recorded
    ]
    name, drawn = BY_TIER, list[Model]()
    if rng.random() < pools.set_share:
        name = rng.choice(list(pools.sets))
        drawn = [model for model in there if model.name in pools.sets[name]]
    else:
        for tier in TIERS:
            of_tier = [model for model in there if model.tier == tier]
            count = rng.randint(*pools.tiers[tier])
            drawn += rng.sample(of_tier, min(count, len(of_tier)))
    rng.shuffle(drawn)
    return DrawnPool(name, tuple(drawn)) if drawn else None


def names_of(models: Sequence[Model]) -> list[str]:
    return [model.name for model in models]
