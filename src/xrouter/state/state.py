"""What gateways share and may lose: limits, reservations, sessions, caches. The books are the ledger's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..ledger.ledger import Spent


@dataclass(frozen=True, slots=True)
class Take:
    """`amount` out of a token bucket that holds `capacity` at most and gains `per_s` each second."""

    bucket: str
    amount: float
    capacity: float
    per_s: float


@dataclass(frozen=True, slots=True)
class Hold:
    """`picodollars` (1e-12 USD) of a budget set aside. `spent`: what the ledger has booked on its scope so far."""

    spent: Spent
    picodollars: int
    limit_picodollars: int


@runtime_checkable
class State(Protocol):
    """Each method is atomic across everyone who shares the state. Raises StateError where it cannot be reached."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None: ...

    async def delete(self, key: str) -> None: ...

    async def take(self, takes: Sequence[Take]) -> tuple[int, float] | None:
        """Take from every bucket, or from none: then (index of the emptiest bucket, seconds until it has enough)."""
        ...

    async def give_back(self, takes: Sequence[Take]) -> None:
        """Return to buckets what was not used after all (a negative amount takes more, below zero if need be)."""
        ...

    async def reserve(self, reservation: str, holds: Sequence[Hold], *, ttl_s: float) -> int | None:
        """Set all holds aside, or none: then the index of the first budget without room.

        There is room where spent + reserved + hold <= limit. Of `spent` the newest version seen counts. A reservation
        that nobody settles within `ttl_s` seconds lapses.
        """
        ...

    async def settle(self, reservation: str, spent: Sequence[Spent]) -> None:
        """Drop a reservation and note what the ledger has booked on its scopes; a second call changes nothing."""
        ...

    async def aclose(self) -> None: ...
