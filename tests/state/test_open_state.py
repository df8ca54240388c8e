from __future__ import annotations

from pathlib import Path

import pytest

from xrouter.errors import ConfigurationError
from xrouter.settings import Settings
from xrouter.state.memory import MemoryState
from xrouter.state.open import open_state
from xrouter.state.redis import RedisState
from xrouter.state.sqlite import SqliteState


async def test_one_worker_keeps_it_in_memory_and_several_beside_the_ledger(tmp_path: Path) -> None:
    settings = Settings(ledger=tmp_path / "books" / "b.sqlite")
    assert isinstance(open_state(settings), MemoryState)
    shared = open_state(settings, workers=2)
    assert isinstance(shared, SqliteState)
    assert shared.path == tmp_path / "books" / "state.sqlite"
    await shared.aclose()
    shared = open_state(Settings(ledger="postgresql://h/d"), 2, {"XDG_DATA_HOME": str(tmp_path)})
    assert isinstance(shared, SqliteState)
    assert shared.path == tmp_path / "xrouter" / "state.sqlite"
    await shared.aclose()


async def test_what_the_settings_name_is_opened(tmp_path: Path) -> None:
    shared = open_state(Settings(state=f"sqlite:{tmp_path}/s"))
    assert isinstance(shared, SqliteState)
    await shared.aclose()
    for url in ("redis://:${P}@h:1/0", "valkey://:${P}@h:1/0"):
        server = open_state(Settings(state=url), env={"P": "geheim"})
        assert isinstance(server, RedisState)
        assert server.address == url.replace(":${P}@", "")
        await server.aclose()


def test_workers_do_not_get_limits_of_their_own() -> None:
    with pytest.raises(ConfigurationError, match="each of them spend the whole"):
        open_state(Settings(state="memory"), workers=2)
    assert isinstance(open_state(Settings(state="memory")), MemoryState)
