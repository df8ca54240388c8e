"""Settings -> the world that answers, and whether it can answer what a data set asks."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...errors import ConfigurationError, DataError
from ...settings import load_settings
from ...tasks.outcomes import load_outcomes, union
from ...tasks.recorded_world import RecordedWorld
from ...tasks.responses import Responses
from ...tasks.world import World
from ..dataset.rows import Sample
from .settings import WorldSettings

log = logging.getLogger(__name__)

CACHE = "live.sqlite"


def open_world(
    settings: WorldSettings, folder: Path | None = None, env: Mapping[str, str] | None = None
) -> World:
    """folder: the run's own; a live world keeps its answers there where `settings.cache` names no file. env: where the
    keys of live models are; None = the environment.

    Blocks. Raises DataError for outcomes that cannot be read, ConfigurationError for a live world whose settings do not
    fit or whose models lack their keys, RunBooksError for a cache that cannot be written.
    """
    if settings.kind == "live":
        return _live(settings, folder, os.environ if env is None else env)
    folders = [Path(name).expanduser() for name in settings.outcomes]
    parts = [load_outcomes(folder) for folder in folders]
    outcomes = union(parts)
    responses = Responses(folders, parts, outcomes.model_names)
    return RecordedWorld(outcomes, responses=responses, tokens_per_s=settings.tokens_per_s)


def check_world(world: World, samples: Iterable[Sample]) -> None:
    """To be called before training. Raises ConfigurationError naming the models of pools that the world lacks, and
    DataError where it knows none of the questions (trivial ones aside: these need no call)."""
    known = {model.name for model in world.models}
    lacking: set[str] = set()
    asked = unknown = 0
    for sample in samples:
        lacking.update(name for name in sample.pool if name not in known)
        if not sample.trivial:
            asked += 1
            unknown += not world.knows(sample.task)
    if lacking:
        raise ConfigurationError(
            f"the data's pools name models that the world lacks: {', '.join(sorted(lacking))}; it has"
            f" {', '.join(sorted(known))}. Add them to the world or build the data from it",
            param="data",
        )
    if asked and unknown == asked:
        raise DataError(
            f"none of the data's {asked} questions is known to the world: every call would fail; build the data from the"
            " outcomes named under world.outcomes, or set world.kind = 'live'"
        )
    if unknown:
        log.warning("%d of %d samples ask what the world does not know: their calls fail", unknown, asked)


def _live(settings: WorldSettings, folder: Path | None, env: Mapping[str, str]) -> World:
    from ...tasks.live_world import LiveWorld

    if settings.max_cost_usd is None:
        raise ConfigurationError(
            "world.max_cost_usd is missing: a run that calls live models needs a limit in USD",
            param="world.max_cost_usd",
        )
    if settings.cache is None and folder is None:
        raise ConfigurationError(
            "world.cache is missing: name a file for live answers, since the run has no folder",
            param="world.cache",
        )
    path = Path(settings.cache).expanduser() if settings.cache else (folder or Path()) / CACHE
    file = None if settings.settings is None else Path(settings.settings).expanduser()
    world = LiveWorld(
        load_settings(file, env),
        env,
        path,
        max_cost_usd=settings.max_cost_usd,
        cache_samples=settings.cache_samples,
        max_output_tokens=settings.max_output_tokens,
    )
    if world.notice is not None:
        log.warning("%s", world.notice)
    return world
