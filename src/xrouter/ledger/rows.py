"""Entries as rows of a table, and back; the same columns in the same order wherever books are kept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from ..errors import LedgerError
from ..messages import Usage
from .ledger import CallEntry, EpisodeEntry
from .totals import ModelTotals, RouteTotals, Totals, ordered

_NO_TEXT = re.compile("[\x00\ud800-\udfff]")


def dollars(amount: Decimal) -> str:
    """Exact text of an amount, never in exponent form."""
    if not amount.is_finite():
        raise LedgerError(f"cost {amount} is not an amount of US dollars")
    return format(amount, "f")


def text(value: str | None) -> str | None:
    """What a database takes for text. What callers sent must not keep what they spent from being booked."""
    if value is None or (value.isascii() and "\x00" not in value):
        return value
    return _NO_TEXT.sub("\ufffd", value)


def episode_row(entry: EpisodeEntry) -> tuple[object, ...]:
    return (
        entry.episode_id,
        entry.at,
        entry.policy,
        entry.policy_version,
        entry.route,
        entry.calls,
        entry.answer_model,
        entry.stop_reason,
        dollars(entry.cost_usd),
        entry.reference_model,
        dollars(entry.reference_cost_usd),
        entry.confidence,
        entry.latency_s,
        entry.cost_weight,
        text(entry.error),
        text(entry.degraded),
        entry.simulated,
        entry.target_quality,
        entry.outside_training,
        text(entry.key_id),
        text(entry.user),
        text(entry.team),
        json.dumps([text(tag) for tag in entry.tags]) if entry.tags else "[]",
        text(entry.session),
        text(entry.trace_id),
        text(entry.cache),
        dollars(entry.saved_usd),
    )


def call_row(entry: CallEntry) -> tuple[object, ...]:
    usage = entry.usage
    return (
        entry.episode_id,
        entry.call_id,
        entry.at,
        entry.model,
        entry.provider,
        entry.kind,
        entry.turn,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        usage.estimated,
        dollars(entry.cost_usd),
        entry.latency_s,
        text(entry.error),
        entry.simulated,
    )


def read_episode(row: tuple[Any, ...]) -> EpisodeEntry:
    values = list(row)
    values[8], values[10] = Decimal(str(row[8])), Decimal(str(row[10]))
    values[16], values[18] = bool(row[16]), bool(row[18])
    values[22], values[26] = tuple(json.loads(row[22])), Decimal(str(row[26]))
    return EpisodeEntry(*values)


def read_call(row: tuple[Any, ...]) -> CallEntry:
    (episode_id, call_id, at, model, provider, kind, turn, *counts) = row
    prompt, completion, cached, reasoning, estimated, cost, latency, error, simulated = counts
    return CallEntry(
        call_id=call_id,
        episode_id=episode_id,
        at=at,
        model=model,
        provider=provider,
        kind=kind,
        turn=turn,
        usage=Usage(prompt, completion, cached, reasoning, bool(estimated)),
        cost_usd=Decimal(str(cost)),
        latency_s=latency,
        error=error,
        simulated=bool(simulated),
    )


def totals_of_rows(
    books: Sequence[Any], routes: Iterable[Sequence[Any]], models: Sequence[Sequence[Any]], top_routes: int
) -> Totals:
    """Totals of what a database has summed up; its sums of money are decimals or their exact texts.

    books: requests, failed ones, cost, reference cost, simulated ones. routes: route, requests, cost. models: model,
    calls, failed ones, cost, prompt, completion, cached and reasoning tokens, whether any of them was estimated.
    """
    requests, failed_requests, spend, reference, simulated = books
    calls = sum(row[1] for row in models)
    by_cost, by_requests = ordered(
        [
            ModelTotals(
                model=model,
                calls=count,
                failed_calls=failed,
                cost_usd=Decimal(cost),
                usage=Usage(int(prompt), int(completion), int(cached), int(reasoning), bool(estimated)),
                share=count / calls,
            )
            for model, count, failed, cost, prompt, completion, cached, reasoning, estimated in models
        ],
        [RouteTotals(route, count, Decimal(cost)) for route, count, cost in routes],
        top_routes,
    )
    return Totals(
        requests=requests,
        failed_requests=failed_requests,
        calls=calls,
        failed_calls=sum(model.failed_calls for model in by_cost),
        spend_usd=Decimal(spend or 0),
        reference_usd=Decimal(reference or 0),
        usage=sum((model.usage for model in by_cost), Usage()),
        models=by_cost,
        routes=by_requests,
        simulated_share=simulated / requests if requests else 0.0,
    )
