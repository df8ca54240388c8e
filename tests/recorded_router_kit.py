"""Language models that route recorded queries of `outcomes_kit`, by a rule instead of weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from episode_kit import ScriptedProvider
from router_llm_kit import router

from xrouter.messages import Completion, Request, Usage
from xrouter.policies.tool_calling import ToolCallingPolicy
from xrouter.settings_tables.router_llm import RouterLLMSettings

USAGE = Usage(1000, 20)
TURN_USD = 0.00034
"""What one decision of USAGE costs at the prices of `router_llm_kit.router`."""

Rule = Callable[[Request], Completion]


def says(text: str | None = None, *calls: tuple[str, dict[str, Any]]) -> Completion:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {
                "id": f"t{i}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for i, (name, arguments) in enumerate(calls)
        ]
    return Completion(message, USAGE, "tool_calls" if calls else "stop")


def calling(*models: str) -> Completion:
    return says(None, *((f"call_{model}", {}) for model in models))


def selecting(call_id: str) -> Completion:
    return says(None, ("select_response", {"call_id": call_id}))


def question(request: Request) -> str:
    """What the user asked."""
    return next(str(m["content"]) for m in request.messages if m["role"] == "user")


def results(request: Request) -> list[dict[str, Any]]:
    """What the router is shown of its calls."""
    return [json.loads(m["content"]) for m in request.messages if m["role"] == "tool"]


def by_topic(request: Request) -> Completion:
    """The right small model of each topic, read before it is handed over."""
    shown = results(request)
    if shown:
        return selecting(shown[0]["call_id"])
    return calling("small-sums" if "numbers" in question(request) else "small-poems")


def policy_of(rule: Rule, **options: Any) -> tuple[ToolCallingPolicy, ScriptedProvider]:
    provider = ScriptedProvider({"router-7b": lambda model, request: rule(request)})
    return ToolCallingPolicy(provider, router(), RouterLLMSettings(**options)), provider
