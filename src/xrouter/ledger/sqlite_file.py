"""Opening a SQLite file that several processes write to."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from .faults import is_busy

RETRY_S = 0.02


def open_file(
    path: Path,
    prepare: Callable[[sqlite3.Connection], object],
    *,
    busy_timeout_s: float,
    private: bool = False,
) -> sqlite3.Connection:
    """A writing connection in WAL mode, the file and its folder made where there are none. Blocks.

    prepare: sets the connection up and checks what is in the file; the connection is closed where it raises.
    private: the file is its owner's alone. SQLite gives its other files the same mode.
    Turning on WAL does not wait for others by itself, so a busy file is tried again for `busy_timeout_s` seconds.
    Raises sqlite3.Error and OSError.
    """
    give_up = time.monotonic() + busy_timeout_s
    while True:
        try:
            return _connect(path, prepare, busy_timeout_s, private)
        except sqlite3.Error as error:
            if not is_busy(error) or time.monotonic() >= give_up:
                raise
        time.sleep(RETRY_S)


def _connect(
    path: Path, prepare: Callable[[sqlite3.Connection], object], busy_timeout_s: float, private: bool
) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    if private:
        path.touch(mode=0o600)
    connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection
