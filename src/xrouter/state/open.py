"""The shared state that the settings name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..settings import default_ledger
from ..settings_tables.addresses import REDIS, SQLITE, expanded
from .memory import MemoryState
from .state import State

if TYPE_CHECKING:
    from ..settings import Settings

FILE = "state.sqlite"


def open_state(settings: Settings, workers: int = 1, env: Mapping[str, str] | None = None) -> State:
    """State for that many worker processes: where nothing is set, memory for one and a file beside the ledger for
    several. Opening a file blocks; a server is connected when first used.

    Raises ConfigurationError where workers would each have limits of their own or the client library is missing,
    StateError where the file cannot be opened.
    """
    env = os.environ if env is None else env
    state = settings.state
    if state == "memory" and workers > 1:
        raise ConfigurationError(
            f'state = "memory" with {workers} workers would let each of them spend the whole of a budget: '
            f'set state = "sqlite:PATH" or a redis:// URL, or leave it out',
            param="state",
        )
    if state is not None and state.startswith(REDIS):
        from .redis import RedisState

        return RedisState(expanded(state, env, param="state"))
    if state is not None and state.startswith(SQLITE):
        return _in_file(Path(state.removeprefix(SQLITE)).expanduser())
    if workers == 1:
        return MemoryState()
    beside = settings.ledger if isinstance(settings.ledger, Path) else default_ledger(env)
    return _in_file(beside.with_name(FILE))


def _in_file(path: Path) -> State:
    from .sqlite import SqliteState

    return SqliteState(path)
