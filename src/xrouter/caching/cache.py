"""The answer cache: exact, semantic and single flight behind one `async with`."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Literal

import orjson

from ..dotted import load_callable
from ..errors import ConfigurationError, StateError
from ..settings_tables.cache import CacheSettings
from .control import CacheControl
from .entry import Entry, Hit, HitKind
from .flights import Flight, Flights
from .question import Question
from .rules import cacheable, semantic_text, storable
from .semantic import Embed, Place, SemanticCache
from .store import MemoryStore, Store

logger = logging.getLogger("xrouter.caching")

Status = Literal["off", "bypass", "miss", "exact", "semantic", "coalesced"]
STATUSES: tuple[Status, ...] = ("off", "bypass", "miss", "exact", "semantic", "coalesced")

_AS_SETTINGS_SAY = CacheControl()


class Asking:
    """One question at the cache. `hit` answers it; without one ask a model, then `keep` what it said.

    status: how the cache met it; "bypass" is a request that is not to be cached.
    """

    def __init__(
        self,
        status: Status,
        hit: Hit | None = None,
        keep: Callable[[Entry], Any] | None = None,
        flight: Flight | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.status = status
        self.hit = hit
        self._keep = keep
        self._flight = flight
        self._clock = clock

    @property
    def keeps(self) -> bool:
        """Whether an answer offered to `keep` would be of use to anybody."""
        return self._keep is not None or self._flight is not None

    async def keep(
        self, completion: Mapping[str, Any], *, cost_usd: Decimal, degraded: str | None = None
    ) -> bool:
        """Offer a whole chat.completion object. What is cut short, degraded or an error is not kept; returns whether
        it was. Requests that wait for this answer have it before the store does."""
        if not self.keeps:
            return False
        if not storable(completion, degraded):
            if self._flight is not None:
                self._flight.land(None)
            return False
        entry = Entry(orjson.dumps(completion), cost_usd, self._clock())
        if self._flight is not None:
            self._flight.land(entry)
        return self._keep is not None and bool(await self._keep(entry))


OFF = Asking("off")
"""How every question meets a cache that is off."""


class Cache:
    """One gateway's cache.

    state: what gateways share, needed where `settings.store` is "state".
    Raises ConfigurationError where it is missing, or the embedding named by the settings cannot be loaded.

    A store that cannot be reached costs hits, not answers: it counts as empty, and the log says so.
    clock: Unix seconds.
    """

    def __init__(
        self,
        settings: CacheSettings,
        state: Store | None = None,
        *,
        embed: Embed | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if settings.embedding is not None and embed is None:
            embed = load_callable(settings.embedding, setting="cache.embedding")
        self._settings = settings
        self._store = _store(settings, state)
        self._semantic = SemanticCache(
            self._store, max_entries=settings.max_entries, threshold=settings.threshold, embed=embed
        )
        self._flights = Flights()
        self._clock = clock

    @property
    def on(self) -> bool:
        return self._settings.on

    def scope(self, owner: str) -> str:
        """The scope of a question of `owner` (a key's or team's id)."""
        return "" if self._settings.shared_between_keys else owner

    @asynccontextmanager
    async def asking(
        self, question: Question, control: CacheControl = _AS_SETTINGS_SAY, *, wait_s: float | None = None
    ) -> AsyncIterator[Asking]:
        """The block answers the question; a request that waits for an equal one does so for `wait_s` seconds."""
        settings = self._settings
        if not settings.on:
            yield OFF
            return
        if not cacheable(question.request, control):
            yield Asking("bypass")
            return
        key = f"cache:{question.key()}"
        hit = None if control.no_cache or not settings.exact else await self._exact(key, control)
        place = None
        if hit is None and settings.semantic:
            place = await self._place(question, key)
            if place is not None and not control.no_cache:
                hit = await self._similar(place, control)
        if hit is not None:
            yield Asking(hit.kind, hit)
            return

        async def keep(entry: Entry) -> bool:
            return await self._keep(key, place, entry)

        stores = (settings.exact or place is not None) and not control.no_store
        if not settings.coalesce or control.no_cache or control.no_store:
            yield Asking("miss", keep=keep if stores else None, clock=self._clock)
            return
        async with self._flights.board(key, wait_s=wait_s) as flight:
            if flight.answer is not None:
                hit = self._hit("coalesced", flight.answer)
                yield Asking(hit.kind, hit)
            else:
                yield Asking("miss", keep=keep if stores else None, flight=flight, clock=self._clock)

    async def _place(self, question: Question, key: str) -> Place | None:
        text = semantic_text(question.request, self._settings.semantic_turns)
        if text is None:
            return None
        try:
            return await self._semantic.place(question, key, text)
        # The boundary to the user's own embedding: its failure costs a hit, not the answer.
        except Exception as error:  # noqa: BLE001
            logger.warning("cache: the embedding failed with %s", type(error).__name__)
            return None

    async def _exact(self, key: str, control: CacheControl) -> Hit | None:
        try:
            return await self._load("exact", key, control)
        except StateError as error:
            logger.warning("cache: not read: %s", error)
            return None

    async def _similar(self, place: Place, control: CacheControl) -> Hit | None:
        try:
            async for key, similarity in self._semantic.candidates(place):
                hit = await self._load("semantic", key, control, similarity)
                if hit is not None:
                    return hit
        except StateError as error:
            logger.warning("cache: not read: %s", error)
        return None

    async def _load(
        self, kind: HitKind, key: str, control: CacheControl, similarity: float = 1.0
    ) -> Hit | None:
        data = await self._store.get(key)
        entry = None if data is None else Entry.decode(data)
        if entry is None:
            self._semantic.forget(key)
            return None
        hit = self._hit(kind, entry, similarity)
        return None if control.max_age_s is not None and hit.age_s > control.max_age_s else hit

    def _hit(self, kind: HitKind, entry: Entry, similarity: float = 1.0) -> Hit:
        return Hit(kind, entry, max(0.0, self._clock() - entry.created), similarity)

    async def _keep(self, key: str, place: Place | None, entry: Entry) -> bool:
        try:
            await self._store.put(key, entry.encode(), ttl_s=self._settings.ttl_s)
            if place is not None:
                await self._semantic.remember(place, self._settings.ttl_s)
        except StateError as error:
            logger.warning("cache: not written: %s", error)
            return False
        return True


def _store(settings: CacheSettings, state: Store | None) -> Store:
    if settings.store == "memory":
        return MemoryStore(settings.max_entries, settings.max_bytes)
    if state is None:
        raise ConfigurationError(
            "cache.store = 'state' needs a state that gateways share: give one, or set it to 'memory'",
            param="cache.store",
        )
    return state
