"""What all episodes of a process share: settings, world, reward and the model in training, read once from the run's folder."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...catalog.model import Model
from ...errors import ConfigurationError
from ...settings_tables.router_llm import RouterLLMSettings
from ...tasks.world import World
from ...toml_reader import Reader
from ..dataset.rows import Sample
from ..router.episode import RouterEpisode
from ..router.open_world import CACHE, open_world
from ..router.reward import EpisodeReward
from ..router.settings import RouterTraining, read_training
from ..trained_model import trained_model
from .settings import VerlSettings, read_verl

TABLE = "verl"
OTHER_TRAINERS = ("trl",)


@dataclass(frozen=True, slots=True)
class Terms:
    world: World
    reward: EpisodeReward
    model: Model
    options: RouterLLMSettings
    verl: VerlSettings

    def episode(self, sample: Sample) -> RouterEpisode:
        return RouterEpisode(sample, self.world, self.model, self.options, self.reward)


@cache
def opened_terms(path: str) -> Terms:
    """The terms in a file that `write_terms` wrote; verl makes a loop for every episode, the world is opened once a process."""
    training = read_terms(Path(path))
    return Terms(
        open_world(training.world),
        EpisodeReward(training.reward),
        trained_model(training.router),
        training.router,
        training.trainer,
    )


def read_terms(path: Path) -> RouterTraining:
    """Raises ConfigurationError naming file, key and value."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return read_training(Reader(str(path), table), TABLE, read_verl)


def write_terms(config: Path, path: Path) -> RouterTraining:
    """Reads the user's TOML and writes it as JSON whose paths are absolute: workers run in folders of their own.

    Raises as `read_terms` does.
    """
    try:
        table = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{config}: {error}") from error
    for other in OTHER_TRAINERS:
        table.pop(other, None)
    training = read_training(Reader(str(config), table), TABLE, read_verl)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_absolute(table, training, path.parent), indent=1), encoding="utf-8")
    return training


def _absolute(table: Mapping[str, Any], training: RouterTraining, run: Path) -> dict[str, Any]:
    made = {**table, "data": _path(str(training.data))}
    world = dict(table.get("world", {}))
    if "outcomes" in world:
        world["outcomes"] = [_path(folder) for folder in world["outcomes"]]
    if training.world.kind == "live":
        world.setdefault("cache", str(run / CACHE))  # all workers share the run's answers and money
    for key in ("settings", "cache"):
        if key in world:
            world[key] = _path(world[key])
    if world:
        made["world"] = world
    verl = dict(table.get(TABLE, {}))
    if Path(training.trainer.model).expanduser().is_dir():
        verl["model"] = _path(training.trainer.model)
    return {**made, TABLE: verl}


def _path(text: str) -> str:
    return str(Path(text).expanduser().resolve())
