"""The [router_llm] table: the language model that routes by tool calls, for the policy `tool-calling`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from ..toml_reader import Reader, number, one_of, whole

ToolMode = Literal["native", "text"]
SystemMessages = Literal["separate", "merged"]
PromptStyle = Literal["full", "brief"]
CallArgument = Literal["optimized_system_prompt", "temperature"]
OnFailure = Literal["answer", "error"]

CALL_ARGUMENTS: tuple[CallArgument, ...] = get_args(CallArgument)
"""Everything that a router may be let say with a call."""

MIN_DECISION_TOKENS = 64
"""A decision that may be shorter is not asked for: a call with its arguments takes about as much."""

_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class RouterLLMSettings:
    """Each field is a key of [router_llm] with the same name.

    model: the model's id at the endpoint, or a name of the catalog. url: the endpoint's base URL up to and including the
        version; None = where the catalog says that the model is served.
    key_env: the environment variable with the endpoint's key; None = no key needed, or the catalog's.
    price: USD per million tokens, as a model's `price`; None = the catalog's. Unknown is an error, never zero.
    context_window, max_tokens: tokens that the model takes, and that one decision may be long.
    temperature: None = the endpoint's default.
    timeout_s: seconds for one decision; never more than half of the time that a request has left.
    tool_mode: "native" sends tools as the API has them; "text" writes them into the prompt the Hermes way and reads
        <tool_call> blocks from the answer, for endpoints without a template for tools.
    system_messages: "separate" keeps the user's system prompt a message of its own; "merged" quotes it in the
        router's, for templates that take one system message.
    prompt: "full" explains the rules, tools and wishes; "brief" only names them, for routers that were trained on it: a third of
        the tokens in every decision. Routers that were not cannot follow it.
    call_arguments: what the router may say with a call, of CALL_ARGUMENTS; () = nothing, it only chooses models. Each
        argument makes every tool, and so every decision, dearer.
    parallel_calls: ask for `parallel_tool_calls`; off for endpoints that refuse the parameter.
    max_calls: models called at once. max_concurrency: decisions under way at once.
    max_response_chars: of a response, how many characters the router reads; longer ones are cut in the middle.
    instructions: rules of your own, added to the router's.
    on_failure: where the endpoint is down or makes no sense to the end, "answer" has the most sensible model answer and
        says so in `degraded`; "error" fails the request.
    fallback_model: who answers then; None = the model worth most by stated capability and price.
    params: further parameters sent with every decision, such as reasoning_effort.
    """

    model: str | None = None
    url: str | None = None
    key_env: str | None = None
    price: Mapping[str, Any] | str | None = None
    context_window: int = 32_768
    max_tokens: int = 2_048
    temperature: float | None = None
    timeout_s: float = 60.0
    tool_mode: ToolMode = "native"
    system_messages: SystemMessages = "separate"
    prompt: PromptStyle = "full"
    call_arguments: tuple[CallArgument, ...] = ()
    parallel_calls: bool = True
    max_calls: int = 5
    max_concurrency: int = 128
    max_response_chars: int = 6_000
    instructions: str | None = None
    on_failure: OnFailure = "answer"
    fallback_model: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)


def read_router_llm(reader: Reader, key: str) -> RouterLLMSettings:
    """Raises ConfigurationError naming the key and the value."""
    return RouterLLMSettings(**reader.subtable(key).read(_READERS))


def _url(reader: Reader, key: str) -> str:
    value = reader.text(key)
    if not value.startswith(("http://", "https://")):
        raise reader.wrong(key, "a URL such as http://127.0.0.1:8000/v1")
    return value


def _variable(reader: Reader, key: str) -> str:
    value = reader.text(key)
    if not _VARIABLE.fullmatch(value):
        raise reader.wrong(
            key, "the name of an environment variable such as OPENAI_API_KEY, not the key itself"
        )
    return value


def _price(reader: Reader, key: str) -> Mapping[str, Any] | str:
    value = reader.table[key]
    return dict(value) if isinstance(value, dict) else reader.text(key)


def _call_arguments(reader: Reader, key: str) -> tuple[CallArgument, ...]:
    value = reader.table[key]
    if not isinstance(value, list) or any(
        value.count(item) > 1 or item not in CALL_ARGUMENTS for item in value
    ):
        raise reader.wrong(key, f"a list of {' and '.join(CALL_ARGUMENTS)}, each once at most, or []")
    return tuple(name for name in CALL_ARGUMENTS if name in value)


def _params(reader: Reader, key: str) -> Mapping[str, Any]:
    params = dict(reader.subtable(key).table)
    ours = sorted({"model", "messages", "tools", "stream", "n"} & set(params))
    if ours:
        raise reader.wrong(key, f"a table without {ours[0]}, which the policy sets itself")
    return params


_READERS: Mapping[str, Callable[[Reader, str], Any]] = {
    "model": Reader.text,
    "url": _url,
    "key_env": _variable,
    "price": _price,
    "context_window": whole(1_024),
    "max_tokens": whole(MIN_DECISION_TOKENS),
    "temperature": number(0, 2),
    "timeout_s": number(0, above=True),
    "tool_mode": one_of(*get_args(ToolMode)),
    "system_messages": one_of(*get_args(SystemMessages)),
    "prompt": one_of(*get_args(PromptStyle)),
    "call_arguments": _call_arguments,
    "parallel_calls": Reader.flag,
    "max_calls": whole(1),
    "max_concurrency": whole(1),
    "max_response_chars": whole(100),
    "instructions": Reader.text,
    "on_failure": one_of(*get_args(OnFailure)),
    "fallback_model": Reader.text,
    "params": _params,
}


def router_llm_from_options(settings: RouterLLMSettings, given: Mapping[str, str]) -> RouterLLMSettings:
    """The settings with options of a command line over them; `price` as "IN/OUT". Raises ConfigurationError."""
    table: dict[str, Any] = dict(given)
    if "price" in table:
        paid, slash, earned = table["price"].partition("/")
        table["price"] = {"input": paid, "output": earned} if slash else table["price"]
    reader = Reader("the command line (--router-...)", {"router_llm": table})
    return replace(settings, **reader.subtable("router_llm").read(_READERS))
