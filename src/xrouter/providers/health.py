"""Whether a model may be asked now, without asking it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from ..catalog.model import Model
from .provider import Provider

Condition = Literal["ok", "cooling", "open"]


@dataclass(frozen=True, slots=True)
class Health:
    """cooling: it said that it gets too many requests; open: it failed too often (its circuit is open).

    back_in_s: seconds until it is asked again; 0 where it is ok.
    """

    condition: Condition = "ok"
    back_in_s: float = 0.0

    @property
    def ok(self) -> bool:
        return self.condition == "ok"


class Watched(Protocol):
    """A provider that knows the health of its models."""

    def health(self, model: Model) -> Health: ...


OK = Health()


def health_of(provider: Provider, model: Model) -> Health:
    """A provider that does not know is taken to be well."""
    watched: Watched | None = provider if hasattr(provider, "health") else None  # type: ignore[assignment]
    return OK if watched is None else watched.health(model)
