"""The gateway's APIs over a mock upstream and nothing between: what their translators alone make of an answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from upstream import completion_body

from xrouter.gateway.anthropic.api import MESSAGES
from xrouter.gateway.api import Api, Exchange
from xrouter.gateway.chat_api import CHAT
from xrouter.gateway.responses.api import RESPONSES
from xrouter.gateway.stream import chunks

APIS: Mapping[str, Api] = {api.path: api for api in (CHAT, MESSAGES, RESPONSES)}

TOOL_CALLS = (
    {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
    },
    {"id": "call_2", "type": "function", "function": {"name": "get_time", "arguments": "{}"}},
)


def completion(**fields: Any) -> dict[str, Any]:
    """What the core hands over for a whole answer."""
    return {**completion_body(**fields), "id": "chatcmpl-1", "xrouter": {"cost_usd": "0.1"}}


def chunks_of(whole: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same answer in the chunks that the core cuts it into."""
    return [*chunks(whole, include_usage=True)]


def events_of(data: bytes) -> list[dict[str, Any]]:
    """The JSON of each server-sent event, whose name must be its type."""
    events = []
    for framed in data.decode().split("\n\n")[:-1]:
        name, _, line = framed.partition("\n")
        event = json.loads(line.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def streamed(exchange: Exchange, chunks: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    translator = exchange.stream()
    return events_of(b"".join([*map(translator.feed, chunks), translator.finish()]))


def body(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data).encode()
