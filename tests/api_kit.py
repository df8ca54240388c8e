"""The gateway's APIs over a mock upstream and nothing between: what their translators alone make of an answer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from typing import Any

from upstream import completion_body

from xrouter.errors import UnknownUrlError, XRouterError
from xrouter.gateway.anthropic.api import MESSAGES
from xrouter.gateway.anthropic.reply import model_page
from xrouter.gateway.anthropic.request import count_tokens
from xrouter.gateway.api import Api, Exchange
from xrouter.gateway.asgi import Receive, Reply, Scope, Send, header, read_body
from xrouter.gateway.chat_api import CHAT
from xrouter.gateway.client_key import bearer
from xrouter.gateway.reply import error_headers, model_list
from xrouter.gateway.responses.api import RESPONSES
from xrouter.gateway.stream import chunks
from xrouter.providers.pool import Pool
from xrouter.providers.usage import usage_object

APIS: Mapping[str, Api] = {api.path: api for api in (CHAT, MESSAGES, RESPONSES)}

TOOL_CALLS = (
    {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
    },
    {"id": "call_2", "type": "function", "function": {"name": "get_time", "arguments": "{}"}},
)


class TranslatorApp:
    """An ASGI application: parse, ask the upstream, translate. `keys` are those that clients showed."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.keys: list[str | None] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.keys.append(bearer(scope))
        reply = Reply(send, "req_test")
        body = await read_body(scope, receive, 1_000_000)
        if scope["path"] == "/v1/models":
            page = model_page if header(scope, b"anthropic-version") else model_list
            await reply.json(200, page(self._pool, (), int(time.time())))
            return
        if scope["path"] == "/v1/messages/count_tokens":
            await reply.json(200, count_tokens(body))
            return
        api = APIS.get(scope["path"], CHAT)
        try:
            if scope["path"] not in APIS:
                raise UnknownUrlError(f"there is no {scope['path']}")
            await self._answer(api, api.parse(body), reply)
        except XRouterError as error:
            headers = {api.request_id_header: "req_test", **error_headers(error)}
            await reply.json(error.status, api.error(error, "req_test"), headers)

    async def _answer(self, api: Api, exchange: Exchange, reply: Reply) -> None:
        chat = exchange.chat
        model = self._pool[chat.model]
        provider = self._pool.provider_of(model)
        ours = {"id": "chatcmpl-test", "model": model.name}
        if not chat.stream:
            completion = await provider.complete(model, chat.request)
            whole = {
                **completion.raw,
                **ours,
                "usage": usage_object(completion.usage),
                "xrouter": {"cost_usd": "0.1"},
            }
            await reply.json(200, exchange.whole(whole), {api.request_id_header: "req_test"})
            return
        translator = exchange.stream()
        try:
            async with aclosing(provider.stream(model, chat.request)) as upstream:
                async for chunk in upstream:
                    if not reply.started:
                        await reply.start()
                    if chat.include_usage or chunk.data["choices"]:
                        await reply.write(translator.feed({**chunk.data, **ours}))
        except XRouterError as error:
            if not reply.started:
                raise
            await reply.end(translator.error(error, "req_test"))
            return
        await reply.end(translator.finish())


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
