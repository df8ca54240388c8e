"""A scripted language model that routes: an endpoint on loopback, and the policy that asks it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from conftest import make_model
from episode_kit import ScriptedProvider, completion
from upstream import Behaviour, MockUpstream, ok

from xrouter.catalog.model import Model
from xrouter.catalog.price import Price, Rates
from xrouter.episodes.episode import Observation, Preference
from xrouter.messages import Request
from xrouter.policies.tool_calling import ToolCallingPolicy
from xrouter.providers.openai import OpenAIProvider
from xrouter.providers.pool import Pool
from xrouter.providers.retry import RetryingProvider
from xrouter.settings_tables.router_llm import CALL_ARGUMENTS, RouterLLMSettings

USAGE: Mapping[str, Any] = {"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020}
TURN_USD = Decimal("0.00034")
"""What one decision of USAGE costs: 1000 x 0.3 + 20 x 2 USD a million."""


def router(**fields: Any) -> Model:
    price = Price(Rates(Decimal("0.3"), Decimal("2")), date(2026, 1, 1), "tests")
    fields = {
        "price": price,
        "context_window": 32_768,
        "max_output_tokens": 4096,
        "provider": "router_llm",
        **fields,
    }
    return make_model("router-7b", **fields)


def call(name: str, arguments: Any = "{}", id_: str = "a1") -> dict[str, Any]:
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": written}}


def says(*calls: Mapping[str, Any], text: str | None = None, finish: str | None = None) -> Behaviour:
    """The router calls these tools, or says this text."""
    reason = finish or ("tool_calls" if calls else "stop")
    return ok(text, usage=USAGE, finish_reason=reason, tool_calls=list(calls) or None)


def select(call_id: str) -> dict[str, Any]:
    return call("select_response", {"call_id": call_id})


def tool_calling(upstream: MockUpstream | str, **options: Any) -> ToolCallingPolicy:
    """With every argument offered, unless the options say otherwise."""
    url = upstream if isinstance(upstream, str) else upstream.base_url
    options = {"call_arguments": CALL_ARGUMENTS, **options}
    inner = OpenAIProvider("router_llm", url, "sk-secret-of-the-router")

    async def at_once(seconds: float) -> None: ...

    provider = RetryingProvider(inner, max_retries=1, sleep=at_once)
    return ToolCallingPolicy(provider, router(), RouterLLMSettings(**options))


def sent(upstream: MockUpstream, index: int = -1) -> dict[str, Any]:
    """The body that the router's endpoint got."""
    body: dict[str, Any] = upstream.requests[index].body
    return body


def pool_of(*names: str, **script: Any) -> tuple[Pool, ScriptedProvider]:
    """Models that answer 'The answer is 7.' unless the script says otherwise; `big` is dear and capable."""
    made = {name: script.get(name, completion()) for name in names}
    provider = ScriptedProvider(made)
    dear = Price(Rates(Decimal(10), Decimal(40)), date(2026, 1, 1), "tests")
    models = tuple(
        make_model(name, capability=0.9, price=dear, tier="premium", description="Hard problems.")
        if name == "big"
        else make_model(name, capability=0.3, tier="budget", description="Easy questions.")
        for name in names
    )
    return Pool(models, {"mock": provider}), provider


def observed(request: Request | None = None, pool: Pool | None = None, **fields: Any) -> Observation:
    models = (pool or pool_of("small", "big")[0]).models
    preference = fields.pop("preference", Preference())
    return Observation(
        request or Request.from_text("What is 3 + 4?"),
        models,
        preference,
        fields.pop("responses", ()),
        fields.pop("turns_left", 3),
        **fields,
    )
