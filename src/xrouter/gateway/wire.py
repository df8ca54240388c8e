"""The body of a chat request: bytes in, a checked `Chat` out. Every refusal names the field.

Only what would break the gateway or its accounting is checked; any other field reaches the model as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import RequestError
from ..messages import Request
from .checks import Checks, check_fields, decode, integer, list_of, model_name, number, of, shown

_ROUTES_ELSEWHERE = frozenset(
    (
        "api_base",
        "api_key",
        "base_url",
        "custom_llm_provider",
        "deployment_id",
        "fallbacks",
        "mock_response",
        "models",
        "plugins",
        "provider",
        "route",
    )
)
"""Fields with which upstreams that route themselves (OpenRouter, LiteLLM's proxy) let a client choose who answers, with
which key and at what price. Here that is for the pool, keys and budgets to say."""

_OWN_FIELDS = ("model", "messages", "stream", "stream_options", "xrouter")


@dataclass(frozen=True, slots=True)
class Chat:
    """A checked request. `options` is the `xrouter` object as it came; `controls` checks it."""

    model: str
    request: Request
    stream: bool = False
    include_usage: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def parse_chat(body: bytes) -> Chat:
    """Raises RequestError, with `param` set to the field at fault where there is one."""
    return chat_of(decode(body))


def chat_of(data: Mapping[str, Any]) -> Chat:
    """The checked request in a chat completions body: a client's, or one that another API's was turned into.

    Raises RequestError as `parse_chat` does.
    """
    model = model_name(data)
    if "messages" not in data:
        raise RequestError("messages is missing: give a list of chat messages", param="messages")
    messages = Request.from_messages(data["messages"]).messages
    for i, message in enumerate(messages):
        _check_content(f"messages[{i}].content", message)
    check_fields(data, _CHECKS)
    elsewhere = _ROUTES_ELSEWHERE.intersection(data)
    if elsewhere:
        name = min(elsewhere)
        raise RequestError(
            f"{name} is not taken: who answers is decided here; xrouter.models narrows it down",
            param=name,
        )
    stream = bool(data.get("stream"))
    return Chat(
        model=model,
        request=Request(messages, {name: value for name, value in data.items() if name not in _OWN_FIELDS}),
        stream=stream,
        include_usage=_include_usage(data.get("stream_options"), stream),
        options=data.get("xrouter") or {},
    )


def _check_content(param: str, message: Mapping[str, Any]) -> None:
    content = message.get("content")
    if content is None:
        if message["role"] in ("user", "system", "developer", "tool"):
            raise RequestError(f"{param} is missing: a {message['role']} message needs one", param=param)
    elif isinstance(content, list):
        for i, part in enumerate(content):
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                raise RequestError(
                    f"{param}[{i}] must be an object with a type such as 'text'",
                    param=f"{param}[{i}]",
                )


def _include_usage(options: Any, stream: bool) -> bool:
    if options is None:
        return False
    if not stream:
        raise RequestError("stream_options is only allowed when stream is true", param="stream_options")
    include = options.get("include_usage")
    if include is not None and not isinstance(include, bool):
        raise RequestError(
            f"stream_options.include_usage must be true or false, got {shown(include)}",
            param="stream_options.include_usage",
        )
    return bool(include)


def _usual_price(value: Any) -> bool:
    """Faster tiers cost more than the prices that budgets count with."""
    return isinstance(value, str) and value not in ("priority", "fast", "scale")


def _stop(value: Any) -> bool:
    return isinstance(value, str) or list_of(str)(value)


_CHECKS: Checks = {
    "stream": (of(bool), "true or false"),
    "stream_options": (of(dict), "an object"),
    "xrouter": (of(dict), "an object"),
    "n": (integer(1, 128), "an integer from 1 to 128"),
    "max_tokens": (integer(1), "a positive integer"),
    "max_completion_tokens": (integer(1), "a positive integer"),
    "temperature": (number(0, 2), "a number from 0 to 2"),
    "top_p": (number(0, 1), "a number from 0 to 1"),
    "presence_penalty": (number(-2, 2), "a number from -2 to 2"),
    "frequency_penalty": (number(-2, 2), "a number from -2 to 2"),
    "seed": (integer(-(2**63)), "an integer"),
    "stop": (_stop, "a string or a list of strings"),
    "logprobs": (of(bool), "true or false"),
    "top_logprobs": (integer(0, 20), "an integer from 0 to 20"),
    "logit_bias": (of(dict), "an object"),
    "tools": (list_of(dict), "a list of objects"),
    "tool_choice": (of(str, dict), "a string or an object"),
    "parallel_tool_calls": (of(bool), "true or false"),
    "response_format": (of(dict), "an object"),
    "service_tier": (_usual_price, "a tier at the usual price, such as 'auto', 'default' or 'flex'"),
    "user": (of(str), "a string"),
    "metadata": (of(dict), "an object"),
}
