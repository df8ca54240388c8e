"""The gateway: an ASGI application in front of a router.

    POST /v1/chat/completions   the policy (`xrouter`, `xrouter:<preset>`) or a pool model by its name
    GET  /v1/models             what may be asked for
    GET  /healthz               alive

The last byte of an answer is sent only after its ledger rows are committed.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from contextlib import aclosing
from typing import Any

from ..catalog.model import Model
from ..episodes.booking import route_of
from ..episodes.episode import Preference
from ..errors import (
    MethodNotAllowedError,
    ModelNotFoundError,
    RequestError,
    ServerStoppingError,
    UnknownUrlError,
    XRouterError,
)
from ..router import Answer, Router
from . import passthrough, stream
from .asgi import ClientDisconnected, Receive, Reply, Scope, Send, read_body, request_id, until_disconnect
from .reply import chat_completion, dollars, model_list
from .wire import Chat, parse_chat

logger = logging.getLogger("xrouter.gateway")

POLICY_MODEL = "xrouter"
"""The model name that means: let the policy decide."""

_METHODS = {"/v1/chat/completions": "POST", "/v1/models": "GET", "/healthz": "GET"}


class Gateway:
    """Serves one router. Its lifespan ends with the router's: shutting down closes pool and ledger."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._created = int(time.time())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"the gateway speaks HTTP, not {scope['type']}")
        reply = Reply(send, request_id(scope))
        try:
            await self._dispatch(scope, receive, reply)
        except ClientDisconnected:
            return
        except asyncio.CancelledError:
            # The server cancels what is still running when its grace period is over; this task ends here.
            await reply.error(ServerStoppingError("the server is shutting down; try again"))
        except XRouterError as error:
            if error.status >= 500:
                logger.warning("%s %s: %s", reply.request_id, type(error).__name__, error)
            await reply.error(error)
        # The boundary of the process: whatever went wrong in one request, the next is served.
        except Exception as error:  # noqa: BLE001
            _log_without_values(reply.request_id, error)
            await reply.error(
                XRouterError(f"internal error; the log has it under request id {reply.request_id}")
            )

    async def _dispatch(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        path, method = scope["path"], scope["method"]
        allowed = _METHODS.get(path)
        if allowed is None:
            raise UnknownUrlError(f"there is no {method} {path}; this server has {', '.join(_METHODS)}")
        if method != allowed:
            await reply.error(
                MethodNotAllowedError(f"{path} takes {allowed}, not {method}"), {"allow": allowed}
            )
        elif path == "/v1/chat/completions":
            body = await read_body(scope, receive, self._router.settings.max_body_bytes)
            await until_disconnect(self._chat(parse_chat(body), reply), receive)
        elif path == "/v1/models":
            presets = self._router.settings.presets
            await reply.json(200, model_list(self._router.pool, presets, self._created))
        else:
            await reply.json(200, self._health())

    async def _chat(self, chat: Chat, reply: Reply) -> None:
        name, colon, preset = chat.model.partition(":")
        with self._router.under_way():
            if chat.model in self._router.pool:
                await self._named(self._router.pool[chat.model], chat, reply)
            elif name == POLICY_MODEL:
                preference = self._preference(chat, preset if colon else None)
                try:
                    answer = await self._router.answer_request(chat.request, preference)
                except RequestError as error:
                    raise _of_option(error, chat) from error
                await self._send(answer, chat, reply)
            else:
                raise ModelNotFoundError(
                    f"model {chat.model!r} is unknown; GET /v1/models lists what there is", param="model"
                )

    async def _send(self, answer: Answer, chat: Chat, reply: Reply) -> None:
        completion = chat_completion(answer, int(time.time()))
        headers = {
            "x-xrouter-cost-usd": dollars(answer.cost_usd),
            "x-xrouter-route": route_of(answer.episode),
        }
        if not chat.stream:
            await reply.json(200, completion, headers)
            return
        chunks = stream.chunks(completion, include_usage=chat.include_usage)
        events = b"".join(map(stream.event, chunks))
        await reply.start(headers)
        await reply.end(events + stream.DONE)

    async def _named(self, model: Model, chat: Chat, reply: Reply) -> None:
        """A pool model asked for by name: its own answer, or its own stream as it comes."""
        preference = self._preference(chat, None, named=True)
        if not chat.stream:
            answer = await passthrough.complete(self._router, model, chat.request, preference)
            await self._send(answer, chat, reply)
            return
        relay = passthrough.stream(
            self._router, model, chat.request, preference, include_usage=chat.include_usage
        )
        async with aclosing(relay) as chunks:
            async for chunk in chunks:
                if not reply.started:
                    await reply.start({"x-xrouter-route": model.name})
                await reply.write(stream.event(chunk))
        await reply.end(stream.DONE)

    def _preference(self, chat: Chat, preset: str | None, *, named: bool = False) -> Preference:
        if named:
            for option in ("cost_weight", "target_quality", "max_turns", "simple"):
                if option in chat.options:
                    raise RequestError(
                        f"xrouter.{option} steers the policy; with model {chat.model!r} there is none,"
                        f" ask for model {POLICY_MODEL!r}",
                        param=f"xrouter.{option}",
                    )
        try:
            return self._router.preference(preset=preset, **chat.options)
        except RequestError as error:
            if error.param == "preset":
                raise ModelNotFoundError(
                    f"model {chat.model!r} is unknown: {error}", param="model"
                ) from error
            raise _of_option(error, chat) from error

    def _health(self) -> dict[str, Any]:
        router = self._router
        return {
            "status": "ok",
            "models": len(router.pool),
            "policy": router.policy.name,
            "policy_version": router.policy.version,
            "simulated": any(model.simulated for model in router.pool),
        }

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._router.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _of_option(error: RequestError, chat: Chat) -> RequestError:
    """The error, with an option at fault named as the body has it."""
    return (
        RequestError(error.message, param=f"xrouter.{error.param}") if error.param in chat.options else error
    )


def _log_without_values(request_id: str, error: Exception) -> None:
    """Where it failed, without the error's text: that may hold a prompt."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s %s\n%s", request_id, type(error).__name__, frames)
