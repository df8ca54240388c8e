"""One timer for a whole stream, in place of one for every wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Watchdog:
    """Calls `expired` once when something that is watched has taken longer than `limit_s` seconds.

    Starting a watch stores a time and sets no timer; the one timer there is looks at it when it fires.
    """

    __slots__ = ("_expired", "_limit_s", "_loop", "_since", "_timer", "bites")

    def __init__(self, limit_s: float, expired: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit_s = limit_s
        self._expired = expired
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.bites = False
        """Whether the time has run out."""

    def watch(self, since: float | None = None) -> None:
        """The wait began now, or at `since` on the loop's clock."""
        self._since = self._loop.time() if since is None else since
        if self._timer is None:
            self._timer = self._loop.call_at(self._since + self._limit_s, self._look)

    def rest(self) -> None:
        """What was watched has come in time."""
        self._since = None

    def stop(self) -> None:
        self._since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = self._loop.time()
        due = (now if self._since is None else self._since) + self._limit_s
        if due > now:
            self._timer = self._loop.call_at(due, self._look)
        else:
            self._timer, self.bites = None, True
            self._expired()
