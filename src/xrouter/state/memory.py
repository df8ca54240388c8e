"""State of one process, in memory: for a gateway with one worker, and for tests."""

from __future__ import annotations

import heapq
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..errors import StateError
from ..ledger.ledger import Spent
from .limits import SCOPE_TTL_S, after_takes, full_in, picodollars, refilled
from .state import Hold, Take

MAX_VALUE_BYTES = 64 * 2**20
_SWEPT_AT_ONCE = 2


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float
    forget_at: float


@dataclass(slots=True)
class _Scope:
    """A budget's scope: the newest version of what was spent, and what is set aside, in picodollars."""

    version: int = -1
    spent: int = 0
    reserved: int = 0
    forget_at: float = 0.0


@dataclass(slots=True)
class _Reservation:
    lapses_at: float
    amounts: dict[str, int] = field(default_factory=dict)


class MemoryState:
    """clock: seconds, never going back. max_value_bytes: beyond it the value that was used longest ago goes."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, max_value_bytes: int = MAX_VALUE_BYTES
    ) -> None:
        self._clock = clock
        self._max_value_bytes = max_value_bytes
        self._value_bytes = 0
        self._values: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._scopes: OrderedDict[str, _Scope] = OrderedDict()
        self._reservations: dict[str, _Reservation] = {}
        self._lapses: list[tuple[float, str]] = []
        self._closed = False

    async def get(self, key: str) -> bytes | None:
        now = self._now()
        found = self._values.get(key)
        if found is None:
            return None
        value, expires_at = found
        if expires_at <= now:
            self._drop_value(key)
            return None
        self._values.move_to_end(key)
        return value

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        now = self._now()
        self._drop_value(key)
        self._values[key] = value, now + ttl_s
        self._value_bytes += len(value)
        while self._value_bytes > self._max_value_bytes:
            self._drop_value(next(iter(self._values)))

    async def delete(self, key: str) -> None:
        self._now()
        self._drop_value(key)

    async def take(self, takes: Sequence[Take]) -> tuple[int, float] | None:
        now = self._now()
        left = after_takes(self._levels(takes, now), takes)
        if isinstance(left, tuple):
            return left
        self._set_levels(takes, left, now)
        return None

    async def give_back(self, takes: Sequence[Take]) -> None:
        now = self._now()
        levels = self._levels(takes, now)
        for take in takes:
            levels[take.bucket] = min(take.capacity, levels[take.bucket] + take.amount)
        self._set_levels(takes, levels, now)

    async def reserve(self, reservation: str, holds: Sequence[Hold], *, ttl_s: float) -> int | None:
        now = self._now()
        own = self._reservations.get(reservation)
        amounts: dict[str, int] = {}
        for index, hold in enumerate(holds):
            name = hold.spent.scope
            scope = self._noted(hold.spent, now)
            others = scope.reserved - (own.amounts.get(name, 0) if own else 0)
            amounts[name] = amounts.get(name, 0) + hold.picodollars
            if scope.spent + others + amounts[name] > hold.limit_picodollars:
                return index
        self._release(reservation)
        self._reservations[reservation] = _Reservation(now + ttl_s, amounts)
        for name, amount in amounts.items():
            self._scopes[name].reserved += amount
        self._remember_to_lapse(now + ttl_s, reservation)
        return None

    async def settle(self, reservation: str, spent: Sequence[Spent]) -> None:
        now = self._now()
        self._release(reservation)
        for total in spent:
            self._noted(total, now)

    async def aclose(self) -> None:
        self._closed = True

    def _now(self) -> float:
        """The time; what has lapsed by then is gone."""
        if self._closed:
            raise StateError("the state is closed: open another")
        now = self._clock()
        while self._lapses and self._lapses[0][0] <= now:
            _, reservation = heapq.heappop(self._lapses)
            held = self._reservations.get(reservation)
            if held is not None and held.lapses_at <= now:
                self._release(reservation)
        self._sweep(now)
        return now

    def _sweep(self, now: float) -> None:
        """Look at a few buckets and scopes in turn and forget those that say nothing any more."""
        for _ in range(min(_SWEPT_AT_ONCE, len(self._buckets))):
            name, bucket = self._buckets.popitem(last=False)
            if bucket.forget_at > now:
                self._buckets[name] = bucket
        for _ in range(min(_SWEPT_AT_ONCE, len(self._scopes))):
            name, scope = self._scopes.popitem(last=False)
            if scope.forget_at > now or scope.reserved:
                self._scopes[name] = scope

    def _drop_value(self, key: str) -> None:
        found = self._values.pop(key, None)
        if found is not None:
            self._value_bytes -= len(found[0])

    def _levels(self, takes: Sequence[Take], now: float) -> dict[str, float]:
        levels = {}
        for take in takes:
            bucket = self._buckets.get(take.bucket)
            levels[take.bucket] = (
                take.capacity if bucket is None else refilled(bucket.level, now - bucket.at, take)
            )
        return levels

    def _set_levels(self, takes: Sequence[Take], levels: dict[str, float], now: float) -> None:
        for take in takes:
            level = levels[take.bucket]
            self._buckets[take.bucket] = _Bucket(level, now, now + full_in(level, take))

    def _noted(self, spent: Spent, now: float) -> _Scope:
        """The scope, once it knows of this total."""
        scope = self._scopes.setdefault(spent.scope, _Scope())
        if spent.version > scope.version:
            scope.version, scope.spent = spent.version, picodollars(spent.cost_usd)
        scope.forget_at = now + SCOPE_TTL_S
        return scope

    def _release(self, reservation: str) -> None:
        held = self._reservations.pop(reservation, None)
        if held is not None:
            for name, amount in held.amounts.items():
                self._scopes[name].reserved -= amount

    def _remember_to_lapse(self, at: float, reservation: str) -> None:
        heapq.heappush(self._lapses, (at, reservation))
        if len(self._lapses) > 2 * len(self._reservations) + 64:
            self._lapses = [(held.lapses_at, name) for name, held in self._reservations.items()]
            heapq.heapify(self._lapses)
