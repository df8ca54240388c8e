"""`asyncio.timeout` for waits that nearly always end in time: a loop's timer each costs more than most of what it guards.

Deadlines further off than a second are kept by the second they fall into, and that second has one timer. When it comes,
what is still waited for gets a timer of its own, so that every deadline is kept to the moment.
"""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Any, Self

NEAR_S = 1.0


class within:  # noqa: N801 - read as a preposition: `with within(seconds):`
    """Cancels what the block waits for once `seconds` have passed, and raises TimeoutError then. None = no limit.

    As `asyncio.timeout`, but entered by a plain `with`.
    """

    __slots__ = ("_cancelling", "_expired", "_kept", "_seconds", "_task", "_timer", "due")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._expired = False
        self._kept: set[within] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def expired(self) -> bool:
        """Whether the time ran out."""
        return self._expired

    def __enter__(self) -> Self:
        seconds = self._seconds
        if seconds is None:
            return self
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline needs a task")
        self._task, self._cancelling = task, task.cancelling()
        self.due = loop.time() + seconds
        if seconds > NEAR_S:
            self._kept = _here.kept(loop, int(self.due))
            self._kept.add(self)
        else:
            self.come_near(loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._kept is not None:
            self._kept.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def come_near(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_at(self.due, self._expire)

    def _expire(self) -> None:
        self._expired = True
        self._timer = None
        self._task.cancel()


class _Kept(threading.local):
    """The deadlines of the loop that runs on this thread, by the second of its clock."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._seconds: dict[int, set[Any]] = {}

    def kept(self, loop: asyncio.AbstractEventLoop, second: int) -> set[within]:
        if self._loop is not loop:
            self._loop, self._seconds = loop, {}
        found = self._seconds.get(second)
        if found is None:
            found = self._seconds[second] = set()
            loop.call_at(second, self._come, loop, second)
        return found

    def _come(self, loop: asyncio.AbstractEventLoop, second: int) -> None:
        for deadline in self._seconds.pop(second) if self._loop is loop else ():
            deadline.come_near(loop)


_here = _Kept()
"""As asyncio's running loop: one a thread."""
