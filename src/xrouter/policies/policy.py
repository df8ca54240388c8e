"""The protocol every policy speaks: an observation in, a decision out."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..episodes.episode import Decision, Observation


@runtime_checkable
class Policy(Protocol):
    """`name` and `version` are reported with every answer. `act` must not block the event loop."""

    name: str
    version: str

    async def act(self, observation: Observation) -> Decision: ...
