"""Embeddings: passed through to the model that is named, and booked like any call. No policy: vectors of two models
cannot be compared, so a choice between them is the client's.

    POST /v1/embeddings
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ..catalog.model import Model
from ..episodes.booking import Attribution
from ..episodes.calls import REFUSALS
from ..episodes.episode_id import new_episode_id
from ..errors import BudgetExceededError, RequestError, XRouterError
from ..ledger.ledger import CallEntry, EpisodeEntry
from ..messages import Usage
from ..providers.embedder import EmbeddingRequest, Embeddings, embedder_of
from ..router import Router
from .checks import Checks, check_fields, decode, integer, model_name, of, one_of
from .reply import dollars

PATH = "/v1/embeddings"
MAX_INPUTS = 2048
"""What OpenAI takes in one request."""


@dataclass(frozen=True, slots=True)
class EmbeddingCall:
    """A checked request. `options` is the `xrouter` object as it came; `controls` checks it."""

    model: str
    request: EmbeddingRequest
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Embedded:
    """An answer and what it was booked at."""

    entry: EpisodeEntry
    embeddings: Embeddings


def parse_embeddings(body: bytes) -> EmbeddingCall:
    """Raises RequestError, with `param` set to the field at fault where there is one."""
    data = decode(body)
    model = model_name(data)
    check_fields(data, _CHECKS)
    given: Any = data.get("input")
    if not _is_input(given):
        raise RequestError(
            f"input must be a text, a list of 1 to {MAX_INPUTS} texts, or tokens: none of them empty",
            param="input",
        )
    params = {name: value for name, value in data.items() if name not in ("model", "input", "xrouter")}
    return EmbeddingCall(model, EmbeddingRequest(given, params), data.get("xrouter") or {})


def worst_cost(model: Model, request: EmbeddingRequest) -> Decimal:
    """USD that the call cannot exceed: what to reserve, and what a cap is held against."""
    return model.price.cost(Usage(request.bound_tokens))


async def embed(
    router: Router,
    call: EmbeddingCall,
    *,
    max_cost_usd: Decimal | None = None,
    timeout_s: float | None = None,
    attribution: Attribution,
) -> Embedded:
    """Ask the model and book the call. Raises ModelNotFoundError, BudgetExceededError, or the provider's own error
    once the failed call is booked."""
    model = router.pool.embedder(call.model)
    provider = embedder_of(router.pool.provider_of(model), model)
    router.check_books()
    worst = worst_cost(model, call.request)
    if max_cost_usd is not None and worst > max_cost_usd:
        raise BudgetExceededError(
            f"the input may cost up to {dollars(worst)} USD, over the cap of {dollars(max_cost_usd)} USD",
            param="max_cost_usd",
        )
    started = time.monotonic()
    try:
        embeddings = await provider.embed(model, call.request, timeout_s=timeout_s)
    except BaseException as error:
        usage = Usage() if isinstance(error, REFUSALS) else Usage(call.request.bound_tokens, estimated=True)
        seconds = time.monotonic() - started
        entry, row = entries_of(model, usage, seconds, attribution=attribution, error=error)
        await router.book_entry(entry, [row], attribution)
        raise
    # As `episodes.plausible` has it: what cannot have been read is not charged.
    most = max(model.context_window, call.request.bound_tokens)
    usage = embeddings.usage
    if usage.prompt_tokens > most:
        usage = Usage(most, estimated=True)
    entry, row = entries_of(
        model,
        usage,
        embeddings.latency_s,
        attribution=attribution,
        endpoint=embeddings.endpoint,
    )
    await router.book_entry(entry, [row], attribution)
    return Embedded(entry, embeddings)


def entries_of(
    model: Model,
    usage: Usage,
    latency_s: float,
    *,
    attribution: Attribution,
    endpoint: str | None = None,
    error: BaseException | None = None,
) -> tuple[EpisodeEntry, CallEntry]:
    """The rows to book. There is no reference to save against but the model itself."""
    episode_id, at, cost = new_episode_id(), time.time(), model.price_at(endpoint).cost(usage)
    said = error.message if isinstance(error, XRouterError) else type(error).__name__ if error else None
    entry = EpisodeEntry(
        episode_id=episode_id,
        at=at,
        policy="passthrough",
        policy_version="1",
        route=model.name,
        calls=1,
        answer_model=None if error else model.name,
        stop_reason="failed" if error else "simple",
        cost_usd=cost,
        reference_model=model.name,
        reference_cost_usd=cost,
        confidence=None,
        latency_s=latency_s,
        cost_weight=0.0,
        error=said,
        simulated=model.simulated,
        key_id=attribution.key_id,
        user=attribution.user,
        team=attribution.team,
        tags=attribution.tags,
        session=attribution.session,
        trace_id=attribution.trace_id,
    )
    row = CallEntry(
        call_id="c1",
        episode_id=episode_id,
        at=at,
        model=model.name,
        provider=model.provider,
        kind="call",
        turn=1,
        usage=usage,
        cost_usd=cost,
        latency_s=latency_s,
        error=said,
        simulated=model.simulated,
    )
    return entry, row


def embedding_list(embedded: Embedded) -> dict[str, Any]:
    """The endpoint's own body under the pool's name for the model, with what the call cost."""
    entry = embedded.entry
    xrouter = {
        "episode_id": entry.episode_id,
        "cost_usd": dollars(entry.cost_usd),
        "simulated": entry.simulated,
    }
    tokens = embedded.embeddings.usage.prompt_tokens
    return {
        **embedded.embeddings.raw,
        "object": "list",
        "model": entry.route,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "xrouter": xrouter,
    }


def _is_input(value: Any) -> bool:
    if isinstance(value, str):
        return value != ""
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_INPUTS:
        return _is_tokens(value)
    return _is_tokens(value) or all(_is_tokens(each) or (isinstance(each, str) and each) for each in value)


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int for token in value)


_CHECKS: Checks = {
    "dimensions": (integer(1), "a positive integer"),
    "encoding_format": (one_of("float", "base64"), "'float' or 'base64'"),
    "user": (of(str), "a string"),
    "xrouter": (of(dict), "an object"),
}
