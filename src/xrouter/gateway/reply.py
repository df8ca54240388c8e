"""Answers, model lists and errors in OpenAI's shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from ..answer import Answer
from ..caching.entry import Hit
from ..catalog.model import Model
from ..episodes.episode import CallModels, DirectAnswer, Select, Step, Synthesis
from ..episodes.planning import Plan
from ..errors import EpisodeError, MethodNotAllowedError, ProviderError, RateLimitedError, XRouterError
from ..messages import Completion, Usage
from ..providers.usage import usage_object


def chat_completion(answer: Answer, created: int) -> dict[str, Any]:
    """A chat.completion object: the answering model's whole body where it gave one, under our id and names.

    `usage` counts the tokens of the answer itself; `xrouter.usage` those of the whole episode.
    """
    completion = answer.episode.completion
    raw = completion.raw
    return {
        **raw,
        "id": completion_id(answer.episode.id),
        "object": "chat.completion",
        "created": raw.get("created") or created,
        "model": answer.model,
        "choices": raw.get("choices")
        or [
            {
                "index": 0,
                "message": dict(completion.message),
                "logprobs": None,
                "finish_reason": completion.finish_reason,
            }
        ],
        "usage": _usage(completion),
        "xrouter": xrouter_object(answer),
    }


def _usage(completion: Completion) -> dict[str, Any]:
    """The upstream's own usage object where it gave one, with the counts that were booked."""
    counted = usage_object(completion.usage)
    totals = {name: counted[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    return {**counted, **(completion.raw.get("usage") or {}), **totals}


def completion_id(episode_id: str) -> str:
    return f"chatcmpl-{episode_id}"


def xrouter_object(answer: Answer) -> dict[str, Any]:
    """What routing did and what it cost. Money is a string of exact USD; `savings` a share of the reference cost."""
    return {
        "episode_id": answer.episode.id,
        "route": [list(turn) for turn in answer.route],
        "calls": [
            {
                "call_id": call.call_id,
                "model": call.model,
                "cost_usd": dollars(call.cost_usd),
                "prompt_tokens": call.usage.prompt_tokens,
                "completion_tokens": call.usage.completion_tokens,
                "latency_ms": round(call.latency_s * 1000, 1),
                "error": call.error,
                "flaws": sorted(call.flaws),
            }
            for response in answer.calls
            for call in response.paid
        ],
        **_decisions(answer),
        "stop_reason": answer.stop_reason,
        "cost_usd": dollars(answer.cost_usd),
        "usage": usage_object(answer.usage),
        "reference_model": answer.reference_model,
        "reference_cost_usd": dollars(answer.reference_cost_usd),
        "savings": answer.savings,
        "confidence": answer.confidence,
        "outside_training": answer.outside_training,
        "policy": answer.policy,
        "policy_version": answer.policy_version,
        "degraded": answer.degraded,
        "simulated": answer.simulated,
    }


def _decisions(answer: Answer) -> dict[str, Any]:
    """What was decided in each turn, what that cost and what was wrong with it, where a language model decides."""
    steps = answer.episode.steps
    if not any(step.decision.policy_model or step.decision.fallback for step in steps):
        return {}
    return {"decisions": [_decision(turn, step) for turn, step in enumerate(steps, start=1)]}


def _decision(turn: int, step: Step) -> dict[str, Any]:
    decision, model = step.decision, step.decision.policy_model
    return {
        "turn": turn,
        "action": _ACTIONS[type(decision.action)] if decision.action != CallModels(()) else "none",
        "calls": [response.call_id for response in step.responses],
        "model": None if model is None else model.name,
        "cost_usd": dollars(Decimal(0) if model is None else model.price.cost(decision.usage)),
        "prompt_tokens": decision.usage.prompt_tokens,
        "completion_tokens": decision.usage.completion_tokens,
        "latency_ms": round(decision.policy_s * 1000, 1),
        "problems": dict(decision.problems),
        "fallback": decision.fallback,
    }


_ACTIONS: Mapping[type, str] = {
    CallModels: "call",
    Select: "select",
    DirectAnswer: "answer",
    Synthesis: "synthesise",
}


def stored_completion(hit: Hit, episode_id: str) -> dict[str, Any]:
    """A cached chat.completion object under a new id; its `xrouter` says what it cost once and that it is stored."""
    completion = hit.completion()
    routing = completion.get("xrouter") or {}
    return {
        **completion,
        "id": completion_id(episode_id),
        "xrouter": {
            **routing,
            "episode_id": episode_id,
            "calls": [],
            "cost_usd": "0",
            "usage": usage_object(Usage()),
            "cache": {
                "kind": hit.kind,
                "age_s": round(hit.age_s, 3),
                "saved_usd": dollars(hit.saved_usd),
                "similarity": hit.similarity,
            },
        },
    }


def plan_object(plan: Plan) -> dict[str, Any]:
    """The answer to a dry run. Money is a string of exact USD."""
    return {
        "object": "xrouter.plan",
        "models": list(plan.models),
        "expected_cost_usd": dollars(plan.expected_cost_usd),
        "worst_cost_usd": dollars(plan.worst_cost_usd),
        "confidence": plan.confidence,
        "outside_training": plan.outside_training,
        "streams_at_once": plan.hand_over,
        "excluded": dict(plan.excluded),
    }


def dollars(amount: Decimal) -> str:
    return format(amount, "f")


def model_list(models: Iterable[Model], presets: Iterable[str], created: int) -> dict[str, Any]:
    """GET /v1/models: the policy, its presets, then every model of the pool."""
    own = ["xrouter", *(f"xrouter:{preset}" for preset in presets)]
    return {
        "object": "list",
        "data": [
            *({"id": name, "object": "model", "created": created, "owned_by": "xrouter"} for name in own),
            *(_model_object(model, created) for model in models),
        ],
    }


def _model_object(model: Model, created: int) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": created,
        "owned_by": model.provider,
        "xrouter": {
            "tier": model.tier,
            "context_window": model.context_window,
            "max_output_tokens": model.max_output_tokens,
            "input_usd_per_million": dollars(model.price.rates.input),
            "output_usd_per_million": dollars(model.price.rates.output),
            "simulated": model.simulated,
        },
    }


def error_object(error: XRouterError) -> dict[str, Any]:
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }


def error_headers(error: XRouterError) -> Mapping[str, str]:
    """Retry-After, in whole seconds, where it is known; Allow, of a wrong method."""
    if isinstance(error, MethodNotAllowedError):
        return {"allow": error.allow}
    cause = error.fault if isinstance(error, EpisodeError) else error
    wait_s = cause.retry_after_s if isinstance(cause, (ProviderError, RateLimitedError)) else None
    return {} if wait_s is None else {"retry-after": str(max(0, math.ceil(wait_s)))}
