"""Action <-> tool call: how a language model that routes says what it wants, and reads what came back.

One function a pool model, `call_<model>` with the arguments that are offered (optimized_system_prompt, temperature, both
or none), and `select_response(call_id)`. Text without a tool call is an answer in the policy's own words.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ..catalog.model import Model
from ..errors import InvalidActionError
from ..settings_tables.router_llm import CallArgument
from .episode import Call, Response, Select

CALL_PREFIX = "call_"
SELECT = "select_response"
EMPTY = "empty reply: call a model, select a response or answer in words"
MAX_NAME_LENGTH = 64
"""OpenAI's limit on a function's name; its alphabet is [a-zA-Z0-9_-]."""


def tool_names(models: Iterable[Model]) -> dict[str, str]:
    """Function name -> model name, one for each model, in order.

    Names that would collide once made safe, or cut at 64 characters, are numbered: call_a_b, call_a_b_2.
    """
    names: dict[str, str] = {}
    for model in models:
        safe = CALL_PREFIX + re.sub(r"[^a-zA-Z0-9_-]", "_", model.name)
        name, number = safe[:MAX_NAME_LENGTH], 1
        while name in names:
            number += 1
            suffix = f"_{number}"
            name = safe[: MAX_NAME_LENGTH - len(suffix)] + suffix
        names[name] = model.name
    return names


def tool_schemas(
    pool: Iterable[Model], *, arguments: Collection[CallArgument] = (), brief: bool = False
) -> list[dict[str, Any]]:
    """The pool as OpenAI tools: what a policy may call, with prices (USD per million tokens) in the text.

    arguments: what may be said with a call. brief: for a policy that knows its tools: tiers alone, nothing explained.
    """
    models = tuple(pool)
    schemas = [
        _function(name, model.tier if brief else _describe(model), _parameters(arguments, brief), required=())
        for name, model in zip(tool_names(models), models, strict=True)
    ]
    schemas.append(
        _function(
            SELECT,
            "hand over" if brief else "Hand over one earlier response as the final answer, unchanged.",
            {"call_id": {"type": "string"} if brief else _CALL_ID},
            required=("call_id",),
        )
    )
    return schemas


def shown_response(
    response: Response, *, max_characters: int | None = None, brief: bool = False
) -> dict[str, Any]:
    """What a policy reads of a response; long texts are cut in the middle at `max_characters`. Cost in USD.

    brief: the final answer in place of the text, where one could be read, and nothing of the call.
    """
    if brief:
        return _brief_response(response, max_characters)
    shown: dict[str, Any] = {"call_id": response.call_id, "model": response.model}
    if response.error is not None:
        shown["error"] = response.error
    if response.completion is not None:
        shown["text"] = _cut(response.text, max_characters)
        if response.completion.tool_calls:
            shown["tool_calls"] = [dict(call) for call in response.completion.tool_calls]
        if response.answer is not None:
            shown["answer"] = _cut(response.answer, max_characters)
        if response.flaws:
            shown["flaws"] = sorted(response.flaws)
    shown["output_tokens"] = response.usage.completion_tokens
    shown["cost_usd"] = format(response.cost_usd, "f")
    shown["seconds"] = round(response.latency_s, 3)
    return shown


def _brief_response(response: Response, max_characters: int | None) -> dict[str, Any]:
    if response.error is not None:
        return {"call_id": response.call_id, "error": response.error}
    told = response.text if response.answer is None else response.answer
    shown: dict[str, Any] = {"call_id": response.call_id, "answer": _cut(told, max_characters)}
    if response.completion is not None and response.completion.tool_calls:
        shown["tool_calls"] = [dict(call) for call in response.completion.tool_calls]
    if response.flaws:
        shown["flaws"] = sorted(response.flaws)
    return shown


def _parameters(arguments: Collection[CallArgument], brief: bool) -> dict[str, Any]:
    offered: dict[str, dict[str, Any]] = {name: _CALL_PARAMETERS[name] for name in arguments}
    if not brief:
        return offered
    return {name: {"type": schema["type"]} for name, schema in offered.items()}


_CALL_ID = {"type": "string", "description": "The call_id shown with that response."}
_CALL_PARAMETERS: Mapping[CallArgument, dict[str, Any]] = {
    "optimized_system_prompt": {
        "type": "string",
        "description": "A system prompt written for this model and this task. Optional.",
    },
    "temperature": {
        "type": "number",
        "minimum": 0,
        "maximum": 2,
        "description": "Sampling temperature, 0 to 2. Optional.",
    },
}


def _function(
    name: str, description: str, properties: Mapping[str, Any], *, required: Sequence[str]
) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def _describe(model: Model) -> str:
    rates = model.price.rates
    facts = [
        f"{model.tier} tier",
        f"${rates.input} in / ${rates.output} out per million tokens",
        f"{model.context_window} tokens of context",
    ]
    also = [kind for kind in model.modalities if kind != "text"]
    if also:
        facts.append(f"reads {' and '.join(also)}")
    if model.reasoning:
        facts.append("thinks before it answers")
    return f"Ask {model.name}. {model.description} ({', '.join(facts)})".replace("  ", " ")


def read_selection(arguments: Any) -> Select:
    """Raises InvalidActionError."""
    return Select(_text_argument(SELECT, _as_object(SELECT, arguments), "call_id", required=True))


def read_call(
    name: str, arguments: Any, models: Mapping[str, str], offered: Collection[CallArgument] = ()
) -> Call:
    """The call that a tool call stands for; `models` as `tool_names` gives them, `offered` as `tool_schemas` took them.

    Raises InvalidActionError.
    """
    model = models.get(name)
    if model is None:
        raise InvalidActionError(
            f"unknown tool {name[:MAX_NAME_LENGTH]!r}: use one of {', '.join((*models, SELECT))}",
            param=name,
            kind="unknown_tool",
        )
    given = _as_object(name, arguments)
    unknown = sorted(set(given) - set(offered))
    if unknown:
        raise InvalidActionError(
            f"{name} has no argument {unknown[0][:MAX_NAME_LENGTH]!r}: use {' and '.join(offered) or 'none'}",
            param=unknown[0],
            kind="bad_arguments",
        )
    prompt = _text_argument(name, given, "optimized_system_prompt", required=False)
    return Call(model, prompt or None, _temperature(name, given.get("temperature")))


def named_arguments(call: Any) -> tuple[str, Any]:
    """Name and arguments of one of a message's `tool_calls`. Raises InvalidActionError."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InvalidActionError(
            "a tool call must have a function with a name and arguments", kind="malformed_call"
        )
    return function["name"], function.get("arguments")


def _as_object(name: str, arguments: Any) -> Mapping[str, Any]:
    if arguments is None or arguments == "":
        return {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError) as error:
            raise InvalidActionError(
                f"the arguments of {name} are not valid JSON ({error}): send an object",
                param=name,
                kind="bad_arguments",
            ) from error
    if not isinstance(arguments, Mapping):
        raise InvalidActionError(
            f"the arguments of {name} must be a JSON object, got {type(arguments).__name__}",
            param=name,
            kind="bad_arguments",
        )
    return arguments


def _text_argument(name: str, arguments: Mapping[str, Any], key: str, *, required: bool) -> str:
    value = arguments.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value):
        raise InvalidActionError(
            f"{name} needs {key} as a string, got {_brief(value)}", param=key, kind="bad_arguments"
        )
    return value


def _temperature(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 2:
        raise InvalidActionError(
            f"{name} needs temperature as a number from 0 to 2, got {_brief(value)}",
            param="temperature",
            kind="bad_arguments",
        )
    return float(value)


def _brief(value: Any) -> str:
    """Enough of a wrong value to mend it; a model may put anything there."""
    shown = repr(value)
    return shown if len(shown) <= MAX_NAME_LENGTH else f"{type(value).__name__} of {len(shown)} characters"


def _cut(text: str, max_characters: int | None) -> str:
    if max_characters is None or len(text) <= max_characters:
        return text
    head = math.ceil(max_characters / 2)
    tail = max_characters - head
    return f"{text[:head]}\n[... {len(text) - max_characters} characters left out ...]\n{text[len(text) - tail :]}"
