"""What is known of a model before it is called."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from .price import Price

TierName = Literal["premium", "standard", "budget", "specialised"]
TIERS: tuple[TierName, ...] = ("premium", "standard", "budget", "specialised")

ModelKind = Literal["chat", "embedding"]
KINDS: tuple[ModelKind, ...] = ("chat", "embedding")


@dataclass(frozen=True, slots=True)
class ModelEndpoint:
    """One of several places that serve a model.

    name: unique among the model's endpoints; what ledgers say. provider: the endpoint of the settings. id: the
    model's id there. weight: its share of the calls, relative to the others'. price: what it charges.
    """

    name: str
    provider: str
    id: str
    price: Price
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the pool.

    name: the pool's name for it; unique, what routes and ledgers say.
    kind: what it answers with; a policy chooses among chat models alone.
    provider: the name of the endpoint that serves it (openai, together, local, simulated, replay, ...).
    id: the provider's own model id.
    context_window, max_output_tokens: tokens.
    capability: 0..1, how capable the model is held to be where nobody measured it; None = guess from price and tier.
    typical_output_tokens: how long its answers tend to be, where nobody measured it; None = as others' are.
    structured_output: takes a `response_format` with a JSON schema.
    tags: whatever requests may ask for, such as where data stays ("eu", "on-premises").
    simulated: True for a pool that only pretends, so that every output can say so.
    endpoints: where it is served, if in more places than one; `provider` and `id` are then the first one's, and `price`
        is the dearest, so that no cost is predicted too low.
    hedge_after_s: ask a second time when no answer has come after so many seconds; None = never.
    hedge_percentile: the same after this percentile of its last latencies.
    """

    name: str
    provider: str
    id: str
    tier: TierName
    price: Price
    context_window: int
    max_output_tokens: int
    description: str = ""
    modalities: tuple[str, ...] = ("text",)
    tools: bool = True
    reasoning: bool = False
    capability: float | None = None
    typical_output_tokens: int | None = None
    simulated: bool = False
    kind: ModelKind = "chat"
    structured_output: bool = True
    tags: tuple[str, ...] = ()
    endpoints: tuple[ModelEndpoint, ...] = ()
    hedge_after_s: float | None = None
    hedge_percentile: float | None = None
    options: dict[str, object] = field(default_factory=dict, hash=False, compare=False)

    def price_at(self, endpoint: str | None) -> Price:
        """What the endpoint of this name charges (`messages.Completion.endpoint`); the dearest where it is not known."""
        return next((place.price for place in self.endpoints if place.name == endpoint), self.price)

    def at(self, endpoint: ModelEndpoint) -> Model:
        """This model as that one endpoint serves it."""
        return replace(self, provider=endpoint.provider, id=endpoint.id, price=endpoint.price, endpoints=())
