"""The protocol every policy speaks: an observation in, a decision out."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol, runtime_checkable

from ..catalog.model import Model
from ..episodes.episode import Decision, Observation, Preference
from ..messages import Request
from ..providers.provider import Provider


@runtime_checkable
class Policy(Protocol):
    """`name` and `version` are reported with every answer. `act` must not block the event loop."""

    name: str
    version: str

    async def act(self, observation: Observation) -> Decision: ...


@runtime_checkable
class PaidPolicy(Policy, Protocol):
    """A policy whose decisions cost money, since `model` at `provider` takes them. `aclose` ends its connections."""

    model: Model
    provider: Provider

    def worst_cost_usd(self, request: Request, pool: Sequence[Model], preference: Preference) -> Decimal:
        """USD that a budget sets aside for the decisions of one request; the request is held to it."""
        ...

    async def aclose(self) -> None: ...
