"""Books in memory: for tests and notebooks. Nothing survives the process."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import LedgerError
from .ledger import CallEntry, EpisodeEntry, Spent
from .spend import Spend, SpendBy, spend_of
from .totals import DEFAULT_TOP_ROUTES, Totals, totals_of, within


class MemoryLedger:
    """`episodes` and `calls` hold what was booked, in order."""

    def __init__(self) -> None:
        self.episodes: list[EpisodeEntry] = []
        self.calls: list[CallEntry] = []
        self._episode_ids: set[str] = set()
        self._spent: dict[str, Spent] = {}
        self._closed = False

    async def book(
        self, episode: EpisodeEntry, calls: Sequence[CallEntry], scopes: Sequence[str] = ()
    ) -> Sequence[Spent]:
        if self._closed:
            raise LedgerError("the ledger is closed: open another")
        if episode.episode_id in self._episode_ids:
            raise LedgerError(
                f"episode {episode.episode_id!r} is booked already: every episode needs its own id"
            )
        ids = [(call.episode_id, call.call_id) for call in calls]
        if len(set(ids)) != len(ids):
            raise LedgerError(f"episode {episode.episode_id!r} names a call twice: call ids must differ")
        self._episode_ids.add(episode.episode_id)
        self.episodes.append(episode)
        self.calls.extend(calls)
        for before in await self.spent(scopes):
            self._spent[before.scope] = Spent(
                before.scope, before.cost_usd + episode.cost_usd, before.version + 1
            )
        return await self.spent(scopes)

    async def spent(self, scopes: Sequence[str]) -> Sequence[Spent]:
        return [self._spent.get(scope, Spent(scope)) for scope in scopes]

    def totals(
        self, since: float | None = None, until: float | None = None, *, top_routes: int = DEFAULT_TOP_ROUTES
    ) -> Totals:
        """What was booked at times in [since, until), Unix seconds."""
        return totals_of(
            [episode for episode in self.episodes if within(episode.at, since, until)],
            [call for call in self.calls if within(call.at, since, until)],
            top_routes=top_routes,
        )

    def spend(self, by: SpendBy, since: float | None = None, until: float | None = None) -> list[Spend]:
        """What was spent at times in [since, until), Unix seconds."""
        return spend_of(
            [episode for episode in self.episodes if within(episode.at, since, until)],
            [call for call in self.calls if within(call.at, since, until)],
            by,
        )

    async def aclose(self) -> None:
        self._closed = True
