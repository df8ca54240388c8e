"""What is asked of the gateway about itself: models, health, metrics, draining."""

from __future__ import annotations

import time
from typing import Any

from ..errors import AccessError, NotAllowedError
from ..observability.health import readiness
from ..observability.metrics import CONTENT_TYPE
from ..observability.record import RequestRecord
from .anthropic.reply import model_page
from .anthropic.request import count_tokens
from .asgi import Receive, Reply, Scope, header, read_body
from .auth import check_admin, is_loopback
from .client_key import bearer
from .openapi import document
from .reply import model_list
from .services import Services


class Operations:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._created = int(time.time())

    async def models(self, scope: Scope, receive: Receive, reply: Reply, record: RequestRecord) -> None:
        router = self._services.router
        caller = await self._services.gate.identify(bearer(scope))
        served = {model.name: model for model in (*router.pool, *router.pool.embedders)}
        models = [served[name] for name in caller.allowed(list(served))]
        page = model_page if header(scope, b"anthropic-version") is not None else model_list
        await reply.json(200, page(models, router.settings.presets, self._created))

    async def count_tokens(self, scope: Scope, receive: Receive, reply: Reply, record: RequestRecord) -> None:
        await self._services.gate.identify(bearer(scope))
        body = await read_body(scope, receive, self._services.router.settings.max_body_bytes)
        await reply.json(200, count_tokens(body))

    async def health(self, scope: Scope, receive: Receive, reply: Reply, record: RequestRecord) -> None:
        router = self._services.router
        body: dict[str, Any] = {
            "status": "ok",
            "models": len(router.pool),
            "policy": router.policy.name,
            "policy_version": router.policy.version,
            "simulated": any(model.simulated for model in router.pool),
        }
        await reply.json(200, body)

    async def readiness(self, scope: Scope, receive: Receive, reply: Reply, record: RequestRecord) -> None:
        services = self._services
        found = await readiness(
            {
                "ledger": lambda: services.router.ledger.spent(("readiness",)),
                "state": lambda: services.state.get("readiness"),
            },
            services.drain,
        )
        await reply.json(found.status, found.body())

    async def metrics(self, scope: Scope, receive: Receive, reply: Reply, record: RequestRecord) -> None:
        self._only_operators(scope)
        await reply.text(200, await self._services.metrics.render(), CONTENT_TYPE)

    async def openapi(self, scope: Scope, receive: Receive, reply: Reply, record: RequestRecord) -> None:
        """For whoever may ask, with the names of the models that they may ask for."""
        router = self._services.router
        try:
            caller = await self._services.gate.identify(bearer(scope))
            models = caller.allowed([model.name for model in router.pool])
        except AccessError:
            models = None
        await reply.json(200, document([*router.settings.presets], models))

    async def drain(self, scope: Scope, receive: Receive, reply: Reply, record: RequestRecord) -> None:
        self._only_operators(scope)
        self._services.drain.start()
        await reply.json(200, {"status": "draining"})

    def _only_operators(self, scope: Scope) -> None:
        """The admin key opens; where none is configured, whoever is on this machine."""
        if self._services.admin_key is not None:
            access = self._services.router.settings.access
            check_admin(bearer(scope), self._services.admin_key, access)
        elif not is_loopback((scope.get("client") or ("",))[0]):
            raise NotAllowedError("without an admin key this is open to callers on the same machine only")
