"""OpenTelemetry's semantic conventions for generative AI, as attributes of a span.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/ ; what is ours stands under `xrouter.`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from ..messages import Completion, Message, Request, Usage, text_of
from .record import RequestRecord
from .redaction import Redact, redacted
from .tracing import Attribute

_PROVIDERS = {"google": "gcp.gemini", "mistral": "mistral_ai", "xai": "x_ai"}
"""Providers whose name in the conventions is not the catalog's."""
_NUMBERS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
}


def span_name(model: str) -> str:
    return f"chat {model}"


def embedding_attributes(provider: str, model: str) -> dict[str, Attribute]:
    return {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": _PROVIDERS.get(provider, provider),
        "gen_ai.request.model": model,
    }


def request_attributes(provider: str, model: str, request: Request) -> dict[str, Attribute]:
    """provider: by the catalog's name, or "xrouter"; model: as it is asked for."""
    attributes: dict[str, Attribute] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _PROVIDERS.get(provider, provider),
        "gen_ai.request.model": model,
    }
    for name, attribute in _NUMBERS.items():
        value = request.params.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            attributes[attribute] = value
    if request.max_output_tokens is not None:
        attributes["gen_ai.request.max_tokens"] = request.max_output_tokens
    return attributes


def server_attributes(url: str | None) -> dict[str, Attribute]:
    """server.address and server.port of an endpoint's URL; nothing for a model without one."""
    parts = urlsplit(url or "")
    if not parts.hostname:
        return {}
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"server.address": parts.hostname, "server.port": port}


def answer_attributes(completion: Completion) -> dict[str, Attribute]:
    attributes: dict[str, Attribute] = {
        "gen_ai.response.finish_reasons": [completion.finish_reason],
        **usage_attributes(completion.usage),
    }
    if completion.served_model:
        attributes["gen_ai.response.model"] = completion.served_model
    identifier = completion.raw.get("id")
    if isinstance(identifier, str):
        attributes["gen_ai.response.id"] = identifier
    return attributes


def usage_attributes(usage: Usage) -> dict[str, Attribute]:
    return {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
    }


def routing_attributes(record: RequestRecord) -> dict[str, Attribute]:
    """What routing did. `xrouter.cost_usd` is a float here, for charts; the exact amount is the ledger's."""
    attributes: dict[str, Attribute] = {
        "xrouter.request_id": record.request_id,
        "xrouter.route": record.route,
        "xrouter.policy": record.policy,
        "xrouter.cost_usd": float(record.cost_usd),
        "xrouter.cache": record.cache,
        "http.response.status_code": record.status,
        **usage_attributes(record.usage),
    }
    if record.confidence is not None:
        attributes["xrouter.confidence"] = record.confidence
    if record.saved_usd:
        attributes["xrouter.cache_saved_usd"] = float(record.saved_usd)
    return attributes


def content_attributes(
    request: Request, completion: Completion | None, redact: Redact | None
) -> dict[str, Attribute]:
    """Prompt and answer as JSON in the conventions' shape, redacted; nothing of either where the redaction fails.

    Only for a gateway that was told to capture them.
    """
    try:
        inputs = [_message(redacted(message, redact)) for message in request.messages]
        outputs = [] if completion is None else [_output(completion, redact)]
    # The boundary to the user's own hook: what it cannot redact is not shown, and the request goes on.
    except Exception as error:  # noqa: BLE001
        return {"xrouter.redaction_failed": type(error).__name__}
    return {
        "gen_ai.input.messages": orjson.dumps(inputs).decode(),
        "gen_ai.output.messages": orjson.dumps(outputs).decode(),
    }


def _output(completion: Completion, redact: Redact | None) -> dict[str, Any]:
    return _message(redacted(completion.message, redact)) | {"finish_reason": completion.finish_reason}


def _message(message: Message) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    text = text_of(message.get("content"))
    if message.get("role") == "tool":
        parts.append({"type": "tool_call_response", "id": message.get("tool_call_id"), "response": text})
    elif text:
        parts.append({"type": "text", "content": text})
    for call in message.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            name, arguments = function.get("name"), function.get("arguments")
            parts.append({"type": "tool_call", "id": call.get("id"), "name": name, "arguments": arguments})
    return {"role": message.get("role", "assistant"), "parts": parts}
