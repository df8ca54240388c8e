"""One answered request, as the caller sees it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from .episodes.episode import Episode, Response
from .ledger.ledger import EpisodeEntry
from .messages import Completion, Message, Usage


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered request. Money is exact USD, latency seconds.

    message: the assistant message in OpenAI's shape; `text` is its text.
    model: the pool model whose answer this is, or the policy's name where it answered itself.
    calls: every call in order, failed ones included; route: their models, turn by turn.
    reference_cost_usd: what `reference_model` alone would have cost, estimated unless it was called.
    savings: share of the reference cost that was saved; below zero if more was spent; None without a reference cost.
    confidence: the policy's probability that the answer is right, None where it has none.
    outside_training: the request is unlike all that the policy was trained on: it chose the route that is good on
        average there, and its confidence is a guess.
    usage: tokens of the whole episode.
    degraded: why the answer is not what the policy wanted; None if it is.
    simulated: True where a model that only pretends was asked.
    """

    text: str
    message: Message
    model: str
    calls: tuple[Response, ...]
    route: tuple[tuple[str, ...], ...]
    stop_reason: str
    cost_usd: Decimal
    reference_model: str
    reference_cost_usd: Decimal
    savings: float | None
    confidence: float | None
    usage: Usage
    latency_s: float
    policy: str
    policy_version: str
    degraded: str | None
    simulated: bool
    episode: Episode
    outside_training: bool = False

    def with_completion(self, completion: Completion) -> Answer:
        """The same answer in other words: whoever changed them, the calls and their cost stay as they were."""
        if completion is self.episode.completion:
            return self
        return replace(
            self,
            text=completion.text,
            message=completion.message,
            episode=replace(self.episode, completion=completion),
        )

    @classmethod
    def of(cls, episode: Episode, entry: EpisodeEntry) -> Answer:
        """The answer of an episode as it was booked."""
        reference = entry.reference_cost_usd
        turns = (tuple(response.model for response in step.responses) for step in episode.steps)
        return cls(
            text=episode.text,
            message=episode.completion.message,
            model=entry.answer_model or entry.policy,
            calls=episode.responses,
            route=tuple(turn for turn in turns if turn),
            stop_reason=episode.stop_reason,
            cost_usd=episode.cost_usd,
            reference_model=entry.reference_model,
            reference_cost_usd=reference,
            savings=float(1 - episode.cost_usd / reference) if reference else None,
            confidence=episode.confidence,
            usage=episode.usage,
            latency_s=episode.latency_s,
            policy=entry.policy,
            policy_version=entry.policy_version,
            degraded=episode.degraded,
            simulated=entry.simulated,
            episode=episode,
            outside_training=episode.outside_training,
        )
