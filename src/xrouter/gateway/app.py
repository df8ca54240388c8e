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
from collections.abc import Mapping
from typing import Any

from ..errors import MethodNotAllowedError, ServerStoppingError, UnknownUrlError, XRouterError
from ..router import Router
from ..state.memory import MemoryState
from .answering import Answering
from .anthropic.api import MESSAGES
from .api import Api, Exchange
from .asgi import ClientDisconnected, Receive, Reply, Scope, Send, read_body, request_id, until_disconnect
from .chat_api import CHAT
from .reply import model_list
from .responses.api import RESPONSES
from .sessions import Sessions

logger = logging.getLogger("xrouter.gateway")

APIS: Mapping[str, Api] = {api.path: api for api in (CHAT, RESPONSES, MESSAGES)}
"""What the gateway speaks, by path."""

_METHODS = {**dict.fromkeys(APIS, "POST"), "/v1/models": "GET", "/healthz": "GET"}


class Gateway:
    """Serves one router. Its lifespan ends with the router's: shutting down closes pool and ledger."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._answering = Answering(router, Sessions(MemoryState()))
        self._created = int(time.time())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"the gateway speaks HTTP, not {scope['type']}")
        api = APIS.get(scope["path"], CHAT)
        reply = Reply(send, request_id(scope), api)
        try:
            await self._dispatch(scope, receive, reply, api)
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

    async def _dispatch(self, scope: Scope, receive: Receive, reply: Reply, api: Api) -> None:
        path, method = scope["path"], scope["method"]
        allowed = _METHODS.get(path)
        if allowed is None:
            raise UnknownUrlError(f"there is no {method} {path}; this server has {', '.join(_METHODS)}")
        if method != allowed:
            error = MethodNotAllowedError(f"{path} takes {allowed}, not {method}")
            await reply.error(error, {"allow": allowed})
        elif path in APIS:
            body = await read_body(scope, receive, self._router.settings.max_body_bytes)
            exchange = api.parse(body)
            await until_disconnect(self._answer(exchange, scope, reply), receive)
        elif path == "/v1/models":
            presets = self._router.settings.presets
            await reply.json(200, model_list(self._router.pool, presets, self._created))
        else:
            await reply.json(200, self._health())

    async def _answer(self, exchange: Exchange, scope: Scope, reply: Reply) -> None:
        with self._router.under_way():
            await self._answering.answer(exchange, scope, reply)

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


def _log_without_values(request_id: str, error: Exception) -> None:
    """Where it failed, without the error's text: that may hold a prompt."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s %s\n%s", request_id, type(error).__name__, frames)
