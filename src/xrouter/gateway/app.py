"""The gateway: an ASGI application in front of a router.

    POST /v1/chat/completions   the policy (`xrouter`, `xrouter:<preset>`) or a pool model by its name
    POST /v1/responses          the same, as OpenAI's Responses
    POST /v1/messages           the same, as Anthropic's Messages; /v1/messages/count_tokens estimates
    POST /v1/embeddings         an embedding model by its name
    GET  /v1/models             what may be asked for
    GET  /healthz /readyz /metrics /openapi.json, POST /drain
    /admin/...                  keys, users, teams, budgets and spending, for the administrator

The last byte of an answer is sent only after its ledger rows are committed.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property

from ..errors import (
    MethodNotAllowedError,
    QuotaExceededError,
    RateLimitedError,
    ServerStoppingError,
    UnknownUrlError,
    XRouterError,
)
from ..observability.genai import routing_attributes
from ..observability.record import RequestRecord
from ..observability.tracing import span
from ..router import Router
from ..trace_context import parse_trace_context
from .answering import Answering
from .anthropic.api import MESSAGES
from .api import Api
from .asgi import (
    ASGIApp,
    ClientDisconnected,
    Receive,
    Reply,
    Scope,
    Send,
    header,
    header_text,
    read_body,
    request_id,
    until_disconnect,
)
from .auth import ADMIN, check_origin
from .chat_api import CHAT
from .client import client_of
from .client_key import bearer
from .embedding_endpoint import EmbeddingEndpoint
from .operations import Operations
from .responses.api import RESPONSES
from .services import Services, open_services

logger = logging.getLogger("xrouter.gateway")

APIS: Mapping[str, Api] = {api.path: api for api in (CHAT, RESPONSES, MESSAGES)}
"""What the gateway speaks, by path."""

Handler = Callable[[Scope, Receive, Reply, RequestRecord], Awaitable[None]]


class Gateway:
    """Serves one router. Its lifespan ends with the router's: shutting down closes pool and ledger.

    services: what it answers with; by default opened from the router's settings.
    """

    def __init__(self, router: Router, services: Services | None = None) -> None:
        self.services = open_services(router) if services is None else services
        self._answering = Answering(self.services)
        operations = Operations(self.services)
        self._router = router
        self._routes: Mapping[str, tuple[str, Handler]] = {
            **dict.fromkeys(APIS, ("POST", self._answer)),
            "/v1/messages/count_tokens": ("POST", operations.count_tokens),
            "/v1/embeddings": ("POST", EmbeddingEndpoint(self.services)),
            "/v1/models": ("GET", operations.models),
            "/healthz": ("GET", operations.health),
            "/readyz": ("GET", operations.readiness),
            "/openapi.json": ("GET", operations.openapi),
            "/metrics": ("GET", operations.metrics),
            "/drain": ("POST", operations.drain),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"the gateway speaks HTTP, not {scope['type']}")
        if scope["path"] == ADMIN or scope["path"].startswith(f"{ADMIN}/"):
            await self._administer(scope, receive, send)
            return
        api = MESSAGES if scope["path"].startswith(f"{MESSAGES.path}/") else APIS.get(scope["path"], CHAT)
        reply = Reply(send, request_id(scope), api, client_of(scope))
        record = RequestRecord(reply.request_id, scope["path"])
        started = time.monotonic()
        metrics = self.services.metrics
        metrics.request_started()
        reply.on_stream = metrics.stream_opened
        try:
            await self._watched(scope, receive, reply, record)
        finally:
            if reply.streaming:
                metrics.stream_closed()
            record.status = record.status or reply.status or 499
            record.latency_s = time.monotonic() - started
            record.first_byte_s = None if reply.started_at is None else reply.started_at - started
            metrics.request_ended(record)
            if scope["path"].startswith("/v1/"):
                self.services.log.write(record)

    @cached_property
    def _admin(self) -> ASGIApp:
        """Made for the first request to it: most gateways never see one, and what it takes is long to load."""
        from .admin import admin_app

        return admin_app(
            self.services.accounts,
            self._router.ledger,
            self._router.settings.access,
            admin_key=self.services.admin_key,
            changed=self.services.gate.forget,
        )

    async def _administer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._admin(scope, receive, send)
        except ClientDisconnected:
            return
        # The boundary of the process, as in `_watched`.
        except Exception as error:  # noqa: BLE001
            identifier = request_id(scope)
            await Reply(send, identifier, CHAT).error(_unforeseen(identifier, error))

    async def _watched(self, scope: Scope, receive: Receive, reply: Reply, record: RequestRecord) -> None:
        """One request, whatever goes wrong in it."""
        parent = parse_trace_context(header_text(scope, b"traceparent"), header_text(scope, b"tracestate"))
        try:
            with span(
                self.services.tracer, f"{scope['method']} {record.api}", "server", parent=parent
            ) as now:
                record.trace_id = now.context.trace_id
                reply.trace = now.context.traceparent
                try:
                    await self._dispatch(scope, receive, reply, record)
                finally:
                    if now.recording:
                        now.set(routing_attributes(record))
        except ClientDisconnected:
            record.status, record.code = 499, "client_disconnected"
        except asyncio.CancelledError:
            # The server cancels what is still running when its grace period is over; this task ends here.
            await self._fail(ServerStoppingError("the server is shutting down; try again"), reply, record)
        except XRouterError as error:
            if error.status >= 500:
                logger.warning("%s %s: %s", reply.request_id, type(error).__name__, error)
            await self._fail(error, reply, record)
        # The boundary of the process: whatever went wrong in one request, the next is served.
        except Exception as error:  # noqa: BLE001
            await self._fail(_unforeseen(reply.request_id, error), reply, record)

    async def _fail(self, error: XRouterError, reply: Reply, record: RequestRecord) -> None:
        record.status, record.code = error.status, error.code or error.type
        if isinstance(error, QuotaExceededError):
            self.services.metrics.budget_refused(error.kind)
        elif isinstance(error, RateLimitedError):
            self.services.metrics.rate_limited(error.kind)
        await reply.error(error)

    async def _dispatch(self, scope: Scope, receive: Receive, reply: Reply, record: RequestRecord) -> None:
        path, method = scope["path"], scope["method"]
        if path not in self._routes:
            record.api = "unknown"
            raise UnknownUrlError(f"there is no {method} {path}; this server has {', '.join(self._routes)}")
        allowed, handle = self._routes[path]
        check_origin(header(scope, b"origin"), header(scope, b"host"))
        if method != allowed:
            raise MethodNotAllowedError(f"{path} takes {allowed}, not {method}", allow=allowed)
        await handle(scope, receive, reply, record)

    async def _answer(self, scope: Scope, receive: Receive, reply: Reply, record: RequestRecord) -> None:
        if self.services.drain.draining:
            raise ServerStoppingError("this gateway is draining: ask another")
        # Before its body is read: nobody without a key makes the gateway hold one.
        caller = await self.services.gate.identify(bearer(scope))
        record.key_id = caller.key_id
        body = await read_body(scope, receive, self.services.router.settings.max_body_bytes)
        exchange = APIS[scope["path"]].parse(body)

        async def answer() -> None:
            with self.services.router.under_way():
                await self._answering.answer(exchange, caller, scope, reply, record)

        await until_disconnect(answer(), receive, client_of(scope))

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.services.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _unforeseen(request_id: str, error: Exception) -> XRouterError:
    """Log where it failed, without the error's text, which may hold a prompt; what the client is told."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s %s\n%s", request_id, type(error).__name__, frames)
    return XRouterError(f"internal error; the log has it under request id {request_id}")
