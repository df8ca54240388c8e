"""POST /v1/embeddings: from the first byte of a request to the last of its answer.

the caller -> the body -> controls -> admission (limits, budgets) -> the call, booked -> reply
"""

from __future__ import annotations

import time

from ..accounts.caller import Caller
from ..errors import RequestError, ServerStoppingError
from ..observability.record import RequestRecord
from .admitted import Admitted, ended_once
from .asgi import Receive, Reply, Scope, read_body, until_disconnect
from .client import client_of
from .client_key import bearer
from .controls import Controls, read_controls
from .embeddings import Embedded, EmbeddingCall, embed, embedding_list, parse_embeddings, worst_cost
from .reply import dollars
from .services import Services

_TAKEN = ("max_cost_usd", "deadline_s")
"""Wishes that mean something for a single call of a named model."""


class EmbeddingEndpoint:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, reply: Reply, record: RequestRecord) -> None:
        """A handler of the gateway's. Raises XRouterError before the first byte."""
        if self._services.drain.draining:
            raise ServerStoppingError("this gateway is draining: ask another")
        # Before its body is read: nobody without a key makes the gateway hold one.
        caller = await self._services.gate.identify(bearer(scope))
        record.key_id = caller.key_id
        body = await read_body(scope, receive, self._services.router.settings.max_body_bytes)
        call = parse_embeddings(body)

        async def answer() -> None:
            with self._services.router.under_way():
                await self._answer(call, caller, scope, reply, record)

        await until_disconnect(answer(), receive, client_of(scope))

    async def _answer(
        self, call: EmbeddingCall, caller: Caller, connection: Scope, reply: Reply, record: RequestRecord
    ) -> None:
        started = time.monotonic()
        record.model = call.model
        controls = read_controls(call.options, connection)
        one = _One(self._services, controls, caller, record)
        try:
            done = await one.ask(call)
        except RequestError as error:
            raise controls.named(error) from error
        record.upstream_s = done.embeddings.latency_s
        overhead_s = max(0.0, time.monotonic() - started - done.embeddings.latency_s)
        headers = {
            "x-xrouter-route": done.entry.route,
            "x-xrouter-model": done.entry.route,
            "x-xrouter-cost-usd": dollars(done.entry.cost_usd),
            "x-xrouter-overhead-ms": f"{1000 * overhead_s:.2f}",
            **one.headers,
        }
        await reply.json(200, embedding_list(done), headers)


class _One:
    """One request under way. `headers`: what is left of the caller's budgets, once the call is booked."""

    def __init__(self, services: Services, controls: Controls, caller: Caller, record: RequestRecord) -> None:
        self.headers: dict[str, str] = {}
        self._services = services
        self._controls = controls
        self._caller = caller
        self._record = record

    async def ask(self, call: EmbeddingCall) -> Embedded:
        controls, router = self._controls, self._services.router
        model = router.pool.embedder(call.model)
        for wish in controls.wishes:
            if wish not in _TAKEN:
                raise RequestError(f"{wish} steers a policy, and embeddings have none", param=wish)
        preference = router.preference(**controls.wishes)
        if controls.dry_run:
            raise RequestError(
                "dry_run is not served for embeddings: there is nothing to plan", param="dry_run"
            )
        worst = worst_cost(model, call.request)
        admission = await self._services.gate.admit(
            self._caller,
            (model.name,),
            worst_cost_usd=worst,
            least_cost_usd=worst,
            prompt_tokens=call.request.expected_tokens,
            tags=controls.tags,
        )
        admitted = Admitted(admission, self._record, controls.session)
        async with ended_once(admission):
            done = await embed(
                router,
                call,
                max_cost_usd=preference.max_cost_usd,
                timeout_s=preference.deadline_s,
                attribution=admitted.attribution,
            )
        self.headers = admitted.headers
        return done
