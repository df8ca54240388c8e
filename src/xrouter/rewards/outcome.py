"""What an episode brought, each thing on its own: a reward mixes them, a report never does."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from ..episodes.episode import Episode
from ..errors import DataError


@dataclass(frozen=True, slots=True)
class Outcome:
    """One finished episode as training and evaluation count it.

    quality: the grader's score of the final answer, 0..1. cost_usd: every call of the episode, unused and
    failed ones included, and the policy's own tokens. seconds: wall-clock time. calls: models asked.

    Raises DataError for a value out of range.
    """

    quality: float
    cost_usd: Decimal
    seconds: float
    calls: int

    def __post_init__(self) -> None:
        if not 0.0 <= self.quality <= 1.0:
            raise DataError(f"quality must be a score in 0..1, got {self.quality!r}")
        for name, value in (("cost_usd", self.cost_usd), ("seconds", self.seconds), ("calls", self.calls)):
            if not value >= 0:
                raise DataError(f"{name} must be zero or more, got {value!r}")

    @classmethod
    def of(cls, episode: Episode, quality: float) -> Outcome:
        """The outcome of an episode whose answer a grader gave `quality`."""
        return cls(quality, episode.cost_usd, episode.latency_s, len(episode.calls))
