"""A finished or abandoned episode as ledger entries."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

from ..catalog.model import Model
from ..errors import XRouterError
from ..ledger.ledger import CallEntry, EpisodeEntry, Spent
from ..providers.pool import Pool
from .episode import Decision, Episode, Preference, Response


class Decider(Protocol):
    """Who decided: a policy, or whatever stands for one."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Attribution:
    """Who asked, for the books. scopes: the budgets that the episode's cost is charged to.

    settled: told the rows and the new totals of the scopes once they are committed, and only then.
    """

    key_id: str | None = None
    user: str | None = None
    team: str | None = None
    tags: tuple[str, ...] = ()
    session: str | None = None
    trace_id: str | None = None
    scopes: tuple[str, ...] = ()
    settled: Callable[[EpisodeEntry, Sequence[CallEntry], Sequence[Spent]], Awaitable[None]] | None = None


NOBODY = Attribution()


def entries(
    episode: Episode,
    pool: Pool,
    policy: Decider,
    reference: Model | None = None,
    error: BaseException | None = None,
    *,
    attribution: Attribution = NOBODY,
    at: float | None = None,
) -> tuple[EpisodeEntry, list[CallEntry]]:
    """The rows to book: one for the episode, one for each call and one for each turn a model decided.

    reference: the model savings are measured against (default: `pool.reference`). `reference_cost_usd` is what
        it cost here if it was called once and answered; otherwise its price applied to the tokens of the answer
        handed over, an estimate; 0 where there is no answer. Where the catalog states the typical length of both
        models' answers, the output counts as that much longer or shorter.
    error: why there is no answer; at: Unix seconds, default now.
    """
    at = time.time() if at is None else at
    reference = reference or pool.reference
    calls = [
        _call(episode.id, pool[response.model], paid, at)
        for response in episode.responses
        for paid in response.paid
    ]
    calls += _decisions(episode, at)
    source = episode.answer_from
    entry = EpisodeEntry(
        episode_id=episode.id,
        at=at,
        policy=policy.name,
        policy_version=policy.version,
        route=route_of(episode),
        calls=len(episode.responses),
        answer_model=source.model if source else None,
        stop_reason=episode.stop_reason,
        cost_usd=episode.cost_usd,
        reference_model=reference.name,
        reference_cost_usd=_reference_cost(episode, reference, pool[source.model] if source else None),
        confidence=episode.confidence,
        latency_s=episode.latency_s,
        cost_weight=episode.preference.cost_weight,
        target_quality=episode.preference.target_quality,
        outside_training=episode.outside_training,
        error=None if error is None else _describe(error),
        degraded=episode.degraded,
        key_id=attribution.key_id,
        user=attribution.user,
        team=attribution.team,
        tags=attribution.tags,
        session=attribution.session,
        trace_id=attribution.trace_id,
        simulated=any(call.simulated for call in calls),
    )
    return entry, calls


def stored_answer_entry(
    episode_id: str,
    kind: str,
    saved_usd: Decimal,
    preference: Preference,
    reference: Model,
    attribution: Attribution,
    latency_s: float,
) -> EpisodeEntry:
    """The row of a request that a cache answered: nobody was asked and nothing spent."""
    return EpisodeEntry(
        episode_id=episode_id,
        at=time.time(),
        policy="cache",
        policy_version="1",
        route="cache",
        calls=0,
        answer_model=None,
        stop_reason="cached",
        cost_usd=Decimal(0),
        reference_model=reference.name,
        reference_cost_usd=Decimal(0),
        confidence=None,
        latency_s=latency_s,
        cost_weight=preference.cost_weight,
        target_quality=preference.target_quality,
        key_id=attribution.key_id,
        user=attribution.user,
        team=attribution.team,
        tags=attribution.tags,
        session=attribution.session,
        trace_id=attribution.trace_id,
        cache=kind,
        saved_usd=saved_usd,
    )


def route_of(episode: Episode) -> str:
    """Who was asked, turn by turn: "a+b > c"; "direct" when nobody was."""
    turns = ("+".join(response.model for response in step.responses) for step in episode.steps)
    return " > ".join(turn for turn in turns if turn) or "direct"


def _reference_cost(episode: Episode, reference: Model, answered: Model | None) -> Decimal:
    own = [response for response in episode.responses if response.model == reference.name and response.ok]
    if len(own) == 1:
        return own[0].cost_usd
    usage = episode.completion.usage
    if answered and answered.typical_output_tokens and reference.typical_output_tokens:
        longer = reference.typical_output_tokens / answered.typical_output_tokens
        usage = replace(
            usage,
            completion_tokens=round(usage.completion_tokens * longer),
            reasoning_tokens=round(usage.reasoning_tokens * longer),
        )
    return reference.price.cost(usage)


def _call(episode_id: str, model: Model, response: Response, at: float) -> CallEntry:
    return CallEntry(
        call_id=response.call_id,
        episode_id=episode_id,
        at=at,
        model=model.name,
        provider=model.provider,
        kind="call",
        turn=response.turn,
        usage=response.usage,
        cost_usd=response.cost_usd,
        latency_s=response.latency_s,
        error=response.error,
        simulated=model.simulated,
    )


def _decisions(episode: Episode, at: float) -> list[CallEntry]:
    """The policy's own model calls; `error` names the kinds of what was wrong with a decision, never its words."""
    return [
        CallEntry(
            call_id=f"p{turn}",
            episode_id=episode.id,
            at=at,
            model=model.name,
            provider=model.provider,
            kind="policy",
            turn=turn,
            usage=step.decision.usage,
            cost_usd=model.price.cost(step.decision.usage),
            latency_s=step.decision.policy_s,
            error=_troubles(step.decision),
            simulated=model.simulated,
        )
        for turn, step in enumerate(episode.steps, start=1)
        if (model := step.decision.policy_model) is not None
    ]


def _troubles(decision: Decision) -> str | None:
    kinds = [f"{kind} x{count}" if count > 1 else kind for kind, count in decision.problems.items()]
    return ", ".join(kinds) or None


def _describe(error: BaseException) -> str:
    """Our own errors speak; others give their type alone, for their text may hold anything."""
    return error.message if isinstance(error, XRouterError) else type(error).__name__
