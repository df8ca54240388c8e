"""The body of a Responses request: bytes in, the same request as a chat out. Every refusal names the field.

Nothing is stored: what asks for an earlier answer, or to keep this one, is refused. So is a field this API does not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import RequestError
from ..checks import (
    Checks,
    check_fields,
    decode,
    integer,
    list_of,
    model_name,
    number,
    of,
    one_of,
    text,
)
from ..wire import Chat, chat_of
from .input import chat_messages
from .tools import tool_fields

LOGPROBS = "message.output_text.logprobs"
INCLUDABLE = (LOGPROBS, "reasoning.encrypted_content", "message.input_image.image_url")
"""What `include` may name. Reasoning is not encrypted here and images are not listed again: those change nothing."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A checked request. `echo`: the fields of the request that the response repeats."""

    chat: Chat
    echo: Mapping[str, Any]
    logprobs: bool


def parse(body: bytes) -> Asked:
    """Raises RequestError, with `param` set to the field at fault where there is one."""
    data = decode(body)
    model = model_name(data)
    for name, (refused, why) in _REFUSED.items():
        if data.get(name) is not None and refused(data[name]):
            raise RequestError(f"{name} {why}", param=name)
    unknown = [name for name in data if name not in _KNOWN]
    if unknown:
        raise RequestError(
            f"{unknown[0]} is not a field of this API that is served here; leave it out", param=unknown[0]
        )
    check_fields(data, _CHECKS)
    stream, logprobs = bool(data.get("stream")), LOGPROBS in _included(data)
    chat = {
        "model": model,
        "messages": chat_messages(data),
        "stream": stream,
        **{name: data[name] for name in _SAME if data.get(name) is not None},
        **tool_fields(data),
        **_text(data.get("text") or {}),
        **_reasoning(data.get("reasoning") or {}),
    }
    if stream:
        chat["stream_options"] = {"include_usage": True}
    if data.get("max_output_tokens") is not None:
        chat["max_tokens"] = data["max_output_tokens"]
    if logprobs:
        chat["logprobs"] = True
    if data.get("top_logprobs"):
        chat |= {"logprobs": True, "top_logprobs": data["top_logprobs"]}
    return Asked(chat_of(chat), _echo(data), logprobs or bool(data.get("top_logprobs")))


def _included(data: Mapping[str, Any]) -> list[str]:
    included: list[str] = data.get("include") or []
    unknown = [name for name in included if name not in INCLUDABLE]
    if unknown:
        raise RequestError(f"include may name {', '.join(INCLUDABLE)} and nothing else", param="include")
    return included


def _text(config: Mapping[str, Any]) -> dict[str, Any]:
    check_fields(config, _TEXT, prefix="text.")
    fields = {} if config.get("verbosity") is None else {"verbosity": config["verbosity"]}
    wanted = config.get("format") or {"type": "text"}
    kind = wanted.get("type")
    if kind == "text":
        return fields
    if kind == "json_object":
        return {**fields, "response_format": {"type": "json_object"}}
    if kind != "json_schema":
        raise RequestError(
            "text.format.type must be 'text', 'json_object' or 'json_schema'", param="text.format.type"
        )
    check_fields(wanted, _JSON_SCHEMA, prefix="text.format.")
    for name in ("name", "schema"):
        if name not in wanted:
            raise RequestError(f"text.format.{name} is missing", param=f"text.format.{name}")
    schema = {name: wanted[name] for name in _JSON_SCHEMA if wanted.get(name) is not None}
    return {**fields, "response_format": {"type": "json_schema", "json_schema": schema}}


def _reasoning(config: Mapping[str, Any]) -> dict[str, Any]:
    """The effort. A summary cannot be asked for: reasoning comes as the models give it."""
    check_fields(config, {"effort": (text, "a word such as 'high'")}, prefix="reasoning.")
    return {"reasoning_effort": config["effort"]} if config.get("effort") else {}


def _echo(data: Mapping[str, Any]) -> dict[str, Any]:
    reasoning = data.get("reasoning") or {}
    return {
        **{name: data.get(name) for name in _ECHOED},
        "background": False,
        "metadata": data.get("metadata") or {},
        "parallel_tool_calls": data.get("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "store": False,
        "text": {"format": {"type": "text"}, **(data.get("text") or {})},
        "tool_choice": data.get("tool_choice") or "auto",
        "tools": data.get("tools") or [],
        "truncation": "disabled",
    }


_SAME = (
    "temperature",
    "top_p",
    "user",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "xrouter",
)
_ECHOED = (
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "temperature",
    "top_p",
    "top_logprobs",
    "user",
    "prompt_cache_key",
    "safety_identifier",
)
_NOT_STORED = "refers to something stored, and nothing is stored here; send the earlier turns in input"
_REFUSED: Checks = {
    "previous_response_id": (bool, _NOT_STORED),
    "conversation": (bool, _NOT_STORED),
    "prompt": (bool, "refers to a template stored elsewhere; send instructions and input"),
    "store": (lambda value: value is True, "must be false: answers are not stored here"),
    "background": (lambda value: value is True, "must be false: an answer comes with its request"),
    "truncation": (lambda value: value == "auto", "must be 'disabled': no turn is left out here"),
    "context_management": (bool, "is not served here; leave it out and send the turns that are to count"),
    "moderation": (bool, "is not served here; leave it out"),
}
_CHECKS: Checks = {
    "input": (of(str, list), "a string or a list of items"),
    "instructions": (of(str), "a string"),
    "max_output_tokens": (integer(1), "a positive integer"),
    "max_tool_calls": (integer(1), "a positive integer"),
    "temperature": (number(0, 2), "a number from 0 to 2"),
    "top_p": (number(0, 1), "a number from 0 to 1"),
    "top_logprobs": (integer(0, 20), "an integer from 0 to 20"),
    "stream": (of(bool), "true or false"),
    "stream_options": (of(dict), "an object"),
    "store": (of(bool), "true or false"),
    "background": (of(bool), "true or false"),
    "parallel_tool_calls": (of(bool), "true or false"),
    "truncation": (one_of("auto", "disabled"), "'auto' or 'disabled'"),
    "include": (list_of(str), "a list of strings"),
    "text": (of(dict), "an object"),
    "reasoning": (of(dict), "an object"),
    "metadata": (of(dict), "an object"),
    "user": (of(str), "a string"),
    "xrouter": (of(dict), "an object"),
}
_TEXT: Checks = {
    "format": (of(dict), "an object"),
    "verbosity": (one_of("low", "medium", "high"), "'low', 'medium' or 'high'"),
}
_JSON_SCHEMA: Checks = {
    "name": (text, "a string"),
    "schema": (of(dict), "a JSON schema"),
    "description": (of(str), "a string"),
    "strict": (of(bool), "true or false"),
}
_KNOWN = frozenset({"model", "tools", "tool_choice", "prompt_cache_options", *_SAME, *_CHECKS, *_REFUSED})
