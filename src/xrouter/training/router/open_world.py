"""Settings -> the world that answers."""

from __future__ import annotations

from ...errors import ConfigurationError
from ...tasks.outcomes import load_outcomes, union
from ...tasks.recorded_world import RecordedWorld
from ...tasks.world import World
from .settings import WorldSettings


def open_world(settings: WorldSettings) -> World:
    """Raises DataError for outcomes that cannot be read."""
    if settings.kind == "recorded":
        return RecordedWorld(union([load_outcomes(folder) for folder in settings.outcomes]))
    raise ConfigurationError("world.kind = 'live' is not built yet", param="world.kind")
