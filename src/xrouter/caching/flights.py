"""Single flight: equal requests under way at once share the first one's answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from .entry import Entry


@dataclass(slots=True)
class _Leader:
    """`landed` becomes the answer, None where there is none to share, or is cancelled with its leader."""

    landed: asyncio.Future[Entry | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Flight:
    """One request's place. `answer` is set where another's answer serves; else ask, then `land`."""

    def __init__(self, answer: Entry | None = None, leader: _Leader | None = None) -> None:
        self.answer = answer
        self._leader = leader

    def land(self, answer: Entry | None) -> None:
        """Hand the answer to those who wait; None lets them ask for themselves."""
        if self._leader is not None and not self._leader.landed.done():
            self._leader.landed.set_result(answer)


class Flights:
    """The requests under way, by key, of one process and one event loop."""

    def __init__(self) -> None:
        self._leaders: dict[str, _Leader] = {}

    def __len__(self) -> int:
        return len(self._leaders)

    @asynccontextmanager
    async def board(self, key: str, *, wait_s: float | None = None) -> AsyncIterator[Flight]:
        """Lead, or wait up to `wait_s` seconds for who leads.

        A leader that is cancelled makes way for one of those who wait. One that fails, or whose answer may not be
        shared, sends all of them off at once: queueing behind failures would add up their time.
        """
        answer = await self._wait(key, wait_s)
        if answer is not None or key in self._leaders:
            yield Flight(answer)
            return
        leader = self._leaders[key] = _Leader()
        flight = Flight(leader=leader)
        try:
            yield flight
        except (asyncio.CancelledError, GeneratorExit):
            leader.landed.cancel()
            raise
        finally:
            del self._leaders[key]
            flight.land(None)

    async def _wait(self, key: str, wait_s: float | None) -> Entry | None:
        """What a leader landed; None with a leader still in the air (late or without an answer) or with none at all."""
        try:
            async with asyncio.timeout(wait_s):
                while (leader := self._leaders.get(key)) is not None:
                    await asyncio.wait({leader.landed})
                    if not leader.landed.cancelled():
                        return leader.landed.result()
        except TimeoutError:
            pass
        return None
