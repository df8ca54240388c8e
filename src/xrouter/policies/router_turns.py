"""An episode so far as messages of a tool-calling conversation: what the router said, and what came of it.

Each turn only adds messages to those before, so that the endpoint's prompt cache stays warm and training sees one
sequence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from ..catalog.model import Model
from ..episodes.actions import SELECT, shown_response, tool_names
from ..episodes.episode import CallModels, Decision, Observation, Response, Select, Step
from ..messages import Message
from .router_message import made_id
from .router_reply import answered
from .router_view import harmless

NOT_CARRIED_OUT = "not carried out"


def turns(
    observation: Observation,
    offered: Sequence[Model],
    *,
    max_response_chars: int,
    in_text: bool = False,
    brief: bool = False,
) -> list[Message]:
    """The messages that follow the conversation. `in_text`: as text the Hermes way, for endpoints without tools.

    brief: of each response only what it answers.
    """
    messages: list[Message] = []
    turns_left = len(observation.steps) + observation.turns_left
    money_left = observation.preference.max_cost_usd
    for number, step in enumerate(observation.steps, start=1):
        state: dict[str, Any] = {"turns_left": turns_left - number}
        if money_left is not None:
            money_left -= cost_of(step)
            state["money_left_usd"] = format(max(money_left, Decimal(0)), "f")
        told = _turn(number, step, offered, state, max_response_chars, brief)
        messages += as_text(told) if in_text else told
    return messages


def cost_of(step: Step) -> Decimal:
    """USD: the decision's own tokens and every call it brought."""
    model = step.decision.policy_model
    own = Decimal(0) if model is None else model.price.cost(step.decision.usage)
    return sum((paid.cost_usd for response in step.responses for paid in response.paid), own)


def said(decision: Decision, number: int, offered: Sequence[Model]) -> Message:
    """The assistant message of a decision; for one that no language model took, what it would have said."""
    if decision.message is not None:
        return decision.message
    names = {model: tool for tool, model in tool_names(offered).items()}
    calls: list[tuple[str, dict[str, Any]]] = []
    if isinstance(decision.action, CallModels):
        for call in decision.action.calls:
            wanted = {"optimized_system_prompt": call.system_prompt, "temperature": call.temperature}
            arguments = {name: value for name, value in wanted.items() if value is not None}
            calls.append((names.get(call.model, call.model), arguments))
    elif isinstance(decision.action, Select):
        calls.append((SELECT, {"call_id": decision.action.call_id}))
    return {
        "role": "assistant",
        "content": None if calls else "",
        "tool_calls": [
            {
                "id": made_id(number, i),
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
            }
            for i, (name, arguments) in enumerate(calls, start=1)
        ],
    }


def as_text(told: Sequence[Message]) -> list[Message]:
    """A turn whose calls and results are written out; the results are one message of the user's."""
    spoken, *results = told
    calls = spoken.get("tool_calls")
    if not calls:
        return list(told)
    lines = [spoken["content"]] if spoken.get("content") else []
    for call in calls:
        name, arguments = _json(call["function"]["name"]), call["function"]["arguments"]
        lines.append(f'<tool_call>\n{{"name": {name}, "arguments": {arguments}}}\n</tool_call>')
    said_back = "\n".join(f"<tool_response>\n{message['content']}\n</tool_response>" for message in results)
    return [{"role": "assistant", "content": "\n".join(lines)}, {"role": "user", "content": said_back}]


def _turn(
    number: int,
    step: Step,
    offered: Sequence[Model],
    state: Mapping[str, Any],
    max_response_chars: int,
    brief: bool,
) -> list[Message]:
    message = said(step.decision, number, offered)
    why = "; ".join(step.errors)
    tool_calls = message.get("tool_calls") or ()
    spoken = {**message, "content": _clean(message.get("content"))}
    if not tool_calls:
        note = {"error": why or NOT_CARRIED_OUT, **state}
        return [{"role": "assistant", "content": spoken["content"] or "(nothing)"}, _note(note)]
    names = tool_names(offered)
    pairs = answered(step)
    results: list[Message] = []
    for i, call in enumerate(tool_calls):
        refused = step.decision.refused.get(call["id"])
        model = None if refused else names.get(call["function"]["name"])
        found = next((pair for pair in pairs if pair[0].model == model), None)
        if found is not None:
            pairs.remove(found)
        shown = _shown(None if found is None else found[1], refused or why, max_response_chars, brief)
        if i == len(tool_calls) - 1:
            shown |= state
        results.append({"role": "tool", "tool_call_id": call["id"], "content": _json(shown)})
    return [spoken, *results]


def _shown(response: Response | None, why: str, max_response_chars: int, brief: bool) -> dict[str, Any]:
    if response is None:
        return {"error": why or NOT_CARRIED_OUT}
    return shown_response(response, max_characters=max_response_chars, brief=brief)


def _note(content: Mapping[str, Any]) -> Message:
    return {"role": "user", "content": f"[Note to the router, not from the user] {_json(content)}"}


def _clean(content: Any) -> str | None:
    return harmless(content) if isinstance(content, str) else None


def _json(value: Any) -> str:
    """Control tokens in what models wrote are broken here, as in the conversation."""
    return harmless(json.dumps(value, ensure_ascii=False, default=str))
