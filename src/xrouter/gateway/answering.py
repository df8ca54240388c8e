"""One exchange: from a checked request to the last byte of its answer.

    controls -> who decides -> admission (limits, budgets) -> cache -> episode -> reply

An admission ends exactly once: settled with what the ledger booked, or released where nothing was spent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from decimal import Decimal

from ..accounts.caller import Caller
from ..answer import Answer
from ..caching.cache import OFF, Asking
from ..caching.control import CacheControl, cache_control
from ..caching.entry import Hit
from ..caching.question import Question
from ..episodes.booking import route_of, stored_answer_entry
from ..episodes.cost import estimate_prompt_tokens
from ..episodes.episode_id import new_episode_id
from ..errors import RequestError
from ..observability.record import RequestRecord
from .admitted import Admitted, ended_once
from .api import Exchange
from .asgi import Reply, header_text
from .asgi import Scope as Connection
from .assignment import Assignment, assign
from .controls import Controls, read_controls
from .relay import Relay
from .reply import chat_completion, plan_object, stored_completion
from .response_headers import answer_headers, calling_s
from .services import Services
from .sessions import Session, implied_session
from .wire import Chat


class Answering:
    """Answers exchanges; `record` of each is filled in for metrics and the log."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._router = services.router

    async def answer(
        self,
        exchange: Exchange,
        caller: Caller,
        connection: Connection,
        reply: Reply,
        record: RequestRecord,
    ) -> None:
        """Send the answer. Raises XRouterError before the first byte or, for a stream, in the middle."""
        services, chat = self._services, exchange.chat
        record.model, record.stream = chat.model, chat.stream
        controls = read_controls(chat.options, connection)
        if services.guardrails.checks_requests:
            chat = replace(chat, request=await services.guardrails.before(chat.request))
        one = _One(services, exchange, chat, controls, caller, reply, record)
        try:
            await one.answer(connection)
        except RequestError as error:
            raise controls.named(error) from error


class _One:
    """One request under way."""

    def __init__(
        self,
        services: Services,
        exchange: Exchange,
        chat: Chat,
        controls: Controls,
        caller: Caller,
        reply: Reply,
        record: RequestRecord,
    ) -> None:
        self._services = services
        self._router = services.router
        self._exchange = exchange
        self._chat = chat
        self._controls = controls
        self._caller = caller
        self._reply = reply
        self._record = record
        self._started = time.monotonic()
        self._episode_id = new_episode_id()
        self._owner = caller.key_id or "anyone"

    async def answer(self, connection: Connection) -> None:
        chat, controls, gate = self._chat, self._controls, self._services.gate
        name = controls.session or implied_session(chat.request)
        session = None if name is None else await self._services.sessions.read(self._owner, name)
        if name is not None:
            self._chat = chat = replace(chat, request=replace(chat.request, affinity=f"{self._owner}/{name}"))
        assignment = assign(self._router, chat, controls, self._caller, session)
        counted = not controls.dry_run and gate.bounds(self._caller, controls.tags)
        admission = await gate.admit(
            self._caller,
            assignment.models,
            worst_cost_usd=assignment.worst_cost_usd(self._router, chat.request) if counted else Decimal(0),
            prompt_tokens=0 if controls.dry_run else estimate_prompt_tokens(chat.request),
            tags=controls.tags,
        )
        async with ended_once(admission):
            if controls.dry_run:
                await self._plan(assignment)
                await admission.release()
                return
            assignment = assignment.capped(admission.max_cost_usd)
            admitted = Admitted(admission, self._record, controls.session)
            control = cache_control(header_text(connection, b"cache-control"), controls.cache)
            async with self._asking(assignment, control) as asking:
                self._record.cache = asking.status
                if asking.hit is not None:
                    await self._from_cache(asking.hit, assignment, admitted)
                else:
                    answer = await self._ask(assignment, admitted, asking)
                    if name is not None and answer.episode.answer_from is not None:
                        await self._services.sessions.write(self._owner, name, _session(answer))

    def _relay(self, headers: Mapping[str, str]) -> Relay:
        return Relay(
            self._reply,
            self._exchange.stream(),
            self._episode_id,
            headers,
            include_usage=self._chat.include_usage,
        )

    async def _ask(self, assignment: Assignment, admitted: Admitted, asking: Asking) -> Answer:
        chat, guardrails = self._chat, self._services.guardrails
        relay = self._relay({"x-xrouter-cache": asking.status}) if chat.stream else None
        answer = await self._router.answer_request(
            chat.request,
            assignment.preference,
            policy=assignment.policy,
            scope=assignment.scope,
            attribution=admitted.attribution,
            sink=None if guardrails.checks_answers else relay,
            warm_tokens=assignment.warm_tokens,
            episode_id=self._episode_id,
        )
        if guardrails.checks_answers:
            completion = await guardrails.after(chat.request, answer.episode.completion)
            answer = answer.with_completion(completion)
        self._note(answer)
        completion_object = None
        if relay is None or asking.keeps or self._services.prompts is not None:
            completion_object = chat_completion(answer, int(time.time()))
            await asking.keep(completion_object, cost_usd=answer.cost_usd, degraded=answer.degraded)
        if self._services.prompts is not None:
            self._services.prompts.store(
                self._record.request_id,
                chat.request,
                completion_object,
                model=answer.model,
                key_id=self._caller.key_id,
            )
        if relay is not None:
            await relay.finish(answer)
        else:
            assert completion_object is not None
            headers = {
                **answer_headers(answer, time.monotonic() - self._started, self._record.upstream_s),
                **admitted.headers,
                "x-xrouter-cache": asking.status,
            }
            await self._reply.json(200, self._exchange.whole(completion_object), headers)
        return answer

    async def _from_cache(self, hit: Hit, assignment: Assignment, admitted: Admitted) -> None:
        """A stored answer: booked at no cost, with what it saved."""
        entry = stored_answer_entry(
            self._episode_id,
            hit.kind,
            hit.saved_usd,
            assignment.preference,
            self._router.reference,
            admitted.attribution,
            time.monotonic() - self._started,
        )
        await self._router.book_entry(entry, [], admitted.attribution)
        self._record.route, self._record.saved_usd = "cache", hit.saved_usd
        completion = stored_completion(hit, self._episode_id)
        headers = {"x-xrouter-cache": hit.kind, "x-xrouter-cost-usd": "0", "x-xrouter-route": "cache"}
        if self._chat.stream:
            await self._relay(headers).whole(completion)
        else:
            await self._reply.json(200, self._exchange.whole(completion), {**headers, **admitted.headers})

    async def _plan(self, assignment: Assignment) -> None:
        plan = await self._router.plan(
            self._chat.request,
            assignment.preference,
            policy=assignment.policy,
            scope=assignment.scope,
            warm_tokens=assignment.warm_tokens,
        )
        await self._reply.json(200, plan_object(plan))

    def _asking(self, assignment: Assignment, control: CacheControl) -> AbstractAsyncContextManager[Asking]:
        cache = self._services.cache
        if not cache.on:  # a question need not be made up then
            return nullcontext(OFF)
        return cache.asking(self._question(assignment), control, wait_s=assignment.preference.deadline_s)

    def _question(self, assignment: Assignment) -> Question:
        policy, preference = assignment.policy or self._router.policy, assignment.preference
        return Question(
            scope=self._services.cache.scope(self._owner),
            model=self._chat.model,
            request=self._chat.request,
            policy=f"{policy.name} {policy.version}",
            preference={
                "cost_weight": preference.cost_weight,
                "target_quality": preference.target_quality,
                "max_cost_usd": self._controls.wishes.get("max_cost_usd"),
                "max_turns": preference.max_turns,
                "simple": preference.simple,
            },
            allowed=assignment.models,
            forbidden=tuple(assignment.scope.forbidden),
        )

    def _note(self, answer: Answer) -> None:
        self._record.policy, self._record.confidence = answer.policy, answer.confidence
        self._record.route = route_of(answer.episode)
        self._record.upstream_s = calling_s(answer)


def _session(answer: Answer) -> Session:
    return Session(answer.model, answer.episode.completion.usage.prompt_tokens, time.time())
