"""The HTTP surface as an OpenAPI 3.1 document, served at GET /openapi.json.

It states what the gateway itself checks and says. Fields that reach the models as they are have no schema here: the
documents of OpenAI and Anthropic describe them. The admin API is described in its own document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .controls import OPTIONS

Schema = dict[str, Any]

_ERROR_CODES = (400, 401, 402, 403, 404, 413, 429, 500, 502, 503, 504)
"""What an answer may be besides 200. 405 goes with any method that a path does not take."""


def document(presets: Sequence[str], models: Sequence[str] | None = None) -> dict[str, Any]:
    """The whole document. presets: those that may follow `xrouter:`. models: of the pool, those that the reader may
    ask for; None where that is not to be told."""
    policies = ["xrouter", *(f"xrouter:{preset}" for preset in presets)]
    named: Schema = {"type": "string", "minLength": 1}
    model = {"anyOf": [{"enum": policies}, named]} if models is None else {"enum": [*policies, *models]}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "xrouter",
            "version": "1",
            "description": f"One endpoint in front of many models. The policy answers as {', '.join(policies)}.",
        },
        "paths": {
            "/v1/chat/completions": _asks(
                "chat", "Chat completions", _CHAT, _object("choices", "usage", "xrouter")
            ),
            "/v1/responses": _asks(
                "responses", "OpenAI's Responses", _RESPONSES, _object("output", "status")
            ),
            "/v1/messages": _asks(
                "messages", "Anthropic's Messages", _MESSAGES, _object("content", "role"), "AnthropicError"
            ),
            "/v1/messages/count_tokens": {
                "post": _operation(
                    "count_tokens",
                    "An estimate of a prompt's tokens",
                    _object("input_tokens"),
                    body=_MESSAGES_COUNTED,
                    error="AnthropicError",
                )
            },
            "/v1/embeddings": {
                "post": _operation("embeddings", "Embeddings", _object("data", "model"), body=_EMBEDDINGS)
            },
            "/v1/models": {"get": _operation("models", "What may be asked for", _object("data"))},
            "/healthz": {
                "get": _operation("health", "Whether the process lives", _object("status"), key=False)
            },
            "/readyz": {
                "get": {
                    **_operation("ready", "Whether it can serve", _object("status"), key=False),
                    "responses": {
                        code: _json(_object("status", "reasons"), words)
                        for code, words in (("200", "It can."), ("503", "It cannot, and why."))
                    },
                }
            },
            "/openapi.json": {"get": _operation("openapi", "This document", _object("openapi"), key=False)},
        },
        "components": {
            "schemas": {
                "Error": _ERROR,
                "AnthropicError": _ANTHROPIC_ERROR,
                "Options": _OPTIONS,
                "Model": model,
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _asks(name: str, title: str, body: Schema, answer: Schema, error: str = "Error") -> dict[str, Any]:
    operation = _operation(name, title, answer, body=body, error=error)
    content = operation["responses"]["200"]["content"]
    # A dry run is answered with a plan instead.
    content["application/json"]["schema"] = {"anyOf": [answer, _object("models", "worst_cost_usd")]}
    content["text/event-stream"] = {"schema": _object("data", data=_TEXT, event=_TEXT)}
    return {"post": operation}


def _operation(
    name: str,
    title: str,
    answer: Schema,
    *,
    body: Schema | None = None,
    error: str = "Error",
    key: bool = True,
) -> dict[str, Any]:
    errors = {
        str(code): _json({"$ref": f"#/components/schemas/{error}"}, "An error.") for code in _ERROR_CODES
    }
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": title,
        "responses": {"200": _json(answer, title), **errors},
    }
    if key:
        operation["security"] = [{"bearer": []}, {"apiKey": []}, {}]
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


def _json(schema: Schema, words: str) -> dict[str, Any]:
    return {"description": words, "content": {"application/json": {"schema": schema}}}


def _object(*required: str, **properties: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties}


def _maybe(schema: Schema) -> Schema:
    """null counts as absent."""
    return {"anyOf": [schema, {"type": "null"}]}


def _body(properties: Mapping[str, Schema], *required: str, closed: bool = False) -> Schema:
    optional = {name: schema if name in required else _maybe(schema) for name, schema in properties.items()}
    body = _object("model", *required, model=_MODEL, **optional)
    return {**body, "additionalProperties": False} if closed else body


_MODEL: Schema = {"$ref": "#/components/schemas/Model"}
_FLAG: Schema = {"type": "boolean"}
_OBJECT: Schema = {"type": "object"}
_TEXT: Schema = {"type": "string"}
_NAMES: Schema = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": 200},
    "maxItems": 64,
}
_OPTION_SCHEMAS: Mapping[str, Schema] = {
    "cost_weight": {"type": "number", "minimum": 0},
    "target_quality": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "max_cost_usd": {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]},
    "deadline_s": {"type": "number", "minimum": 1},  # less is taken, and seldom answered in time
    "max_turns": {"type": "integer", "minimum": 1, "maximum": 16},
    "simple": _FLAG,
    "dry_run": _FLAG,
    "models": _NAMES,
    "exclude_models": _NAMES,
    "require_tags": _NAMES,
    "tags": _NAMES,
    "session": {"type": "string", "minLength": 1, "maxLength": 200},
    "cache": _OBJECT,
}
_OPTIONS: Schema = {
    "type": "object",
    "properties": {name: _OPTION_SCHEMAS.get(name, _TEXT) for name in OPTIONS},
    "additionalProperties": False,
    "description": "What is asked of the router itself; each key but cache also has a header x-xrouter-<key>.",
}
_SHARED: Mapping[str, Schema] = {"stream": _FLAG, "xrouter": {"$ref": "#/components/schemas/Options"}}


def _number(low: float, high: float) -> Schema:
    return {"type": "number", "minimum": low, "maximum": high}


def _integer(low: int, high: int = 2**31) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


_PART = _object("type", "text", type={"const": "text"}, text=_TEXT)
"""Other parts, such as images, are described by OpenAI and Anthropic."""
_CHAT_MESSAGE = _object(
    "role",
    "content",
    role={"enum": ["user", "system", "assistant"]},
    content={"anyOf": [_TEXT, _list(_PART)]},
)
_CHAT = _body(
    {
        "messages": _list(_CHAT_MESSAGE, minItems=1),
        **_SHARED,
        "n": _integer(1, 128),
        "max_tokens": _integer(1),
        "max_completion_tokens": _integer(1),
        "temperature": _number(0, 2),
        "top_p": _number(0, 1),
        "presence_penalty": _number(-2, 2),
        "frequency_penalty": _number(-2, 2),
        "seed": _integer(-(2**31)),
        "stop": {"anyOf": [_TEXT, _list(_TEXT)]},
        "logprobs": _FLAG,
        "top_logprobs": _integer(0, 20),
        "logit_bias": _OBJECT,
        "tools": _list(_OBJECT),
        "parallel_tool_calls": _FLAG,
        "response_format": _OBJECT,
        "user": _TEXT,
        "metadata": _OBJECT,
    },
    "messages",
)
_RESPONSES = _body(
    {
        "input": {"anyOf": [{"type": "string", "minLength": 1}, _list(_OBJECT, minItems=1)]},
        **_SHARED,
        "instructions": _TEXT,
        "max_output_tokens": _integer(1),
        "temperature": _number(0, 2),
        "top_p": _number(0, 1),
        "top_logprobs": _integer(0, 20),
        "tools": _list(_OBJECT),
        "parallel_tool_calls": _FLAG,
        "metadata": _OBJECT,
        "text": _OBJECT,
        "user": _TEXT,
    },
    "input",
    closed=True,
)
_TURN = _object(
    "role", "content", role={"enum": ["user", "assistant"]}, content={"anyOf": [_TEXT, _list(_PART)]}
)
_MESSAGE_FIELDS: Mapping[str, Schema] = {
    "messages": _list(_TURN, minItems=1),
    "max_tokens": _integer(1),
    **_SHARED,
    "system": {"anyOf": [_TEXT, _list(_PART)]},
    "temperature": _number(0, 1),
    "top_p": _number(0, 1),
    "top_k": _integer(0),
    "stop_sequences": _list(_TEXT),
    "tools": _list(_OBJECT),
    "metadata": _OBJECT,
    "thinking": _OBJECT,
}
_MESSAGES = _body(_MESSAGE_FIELDS, "messages", "max_tokens", closed=True)
_MESSAGES_COUNTED = _body(_MESSAGE_FIELDS, "messages", closed=True)
_EMBEDDINGS = _body({"input": {"anyOf": [_TEXT, _list(_TEXT)]}, "xrouter": _SHARED["xrouter"]}, "input")
_ERROR = _object(
    "error",
    error=_object(
        "message",
        "type",
        "param",
        "code",
        message=_TEXT,
        type=_TEXT,
        param=_maybe(_TEXT),
        code=_maybe(_TEXT),
    ),
)
_ANTHROPIC_ERROR = _object(
    "type",
    "error",
    type={"const": "error"},
    error=_object("type", "message", type=_TEXT, message=_TEXT),
    request_id=_TEXT,
)
