"""One exchange: from a checked request to the last byte of its answer."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..answer import Answer
from ..episodes.booking import Attribution
from ..episodes.eligibility import Scope
from ..episodes.episode import Preference
from ..errors import ModelNotFoundError, RequestError
from ..policies.named import Named
from ..policies.policy import Policy
from ..router import Router
from .api import Exchange
from .asgi import Reply
from .asgi import Scope as Connection
from .controls import Controls, read_controls
from .relay import Relay
from .reply import chat_completion, plan_object
from .response_headers import answer_headers
from .sessions import Session, Sessions, awaits_tool_results, implied_session
from .wire import Chat

POLICY_MODEL = "xrouter"
"""The model name that means: let the policy decide."""

_STEERS_THE_POLICY = ("cost_weight", "target_quality", "max_turns", "simple")


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who decides on a request, among which models, and with what in mind."""

    policy: Policy | None
    preference: Preference
    scope: Scope
    warm_tokens: Mapping[str, int]


class Answering:
    """Answers exchanges with one router. `sessions` keeps conversations with their models."""

    def __init__(self, router: Router, sessions: Sessions) -> None:
        self._router = router
        self._sessions = sessions

    async def answer(self, exchange: Exchange, connection: Connection, reply: Reply) -> None:
        """Send the answer. Raises XRouterError before the first byte or, for a stream, in the middle."""
        started = time.monotonic()
        chat = exchange.chat
        controls = read_controls(chat.options, connection)
        owner = "anyone"
        session_name = controls.session or implied_session(chat.request)
        session = None if session_name is None else await self._sessions.read(owner, session_name)
        try:
            assignment = self._assign(chat, controls, session)
            if controls.dry_run:
                await self._plan(chat, assignment, reply)
                return
            episode_id = uuid.uuid4().hex
            relay = None
            if chat.stream:
                relay = Relay(reply, exchange.stream(), episode_id, {}, include_usage=chat.include_usage)
            answer = await self._router.answer_request(
                chat.request,
                assignment.preference,
                policy=assignment.policy,
                scope=assignment.scope,
                attribution=Attribution(tags=controls.tags, session=controls.session),
                sink=relay,
                warm_tokens=assignment.warm_tokens,
                episode_id=episode_id,
            )
        except RequestError as error:
            raise controls.named(error) from error
        if session_name is not None and answer.episode.answer_from is not None:
            await self._sessions.write(owner, session_name, _session(answer))
        if relay is not None:
            await relay.finish(answer)
            return
        completion = chat_completion(answer, int(time.time()))
        await reply.json(200, exchange.whole(completion), answer_headers(answer, time.monotonic() - started))

    def _assign(self, chat: Chat, controls: Controls, session: Session | None) -> Assignment:
        """Raises ModelNotFoundError, or RequestError for wishes that do not fit the model asked for."""
        pool, scope = self._router.pool, controls.scope
        for names, key in ((scope.allowed or (), "models"), (scope.forbidden, "exclude_models")):
            unknown = next((name for name in names if name not in pool), None)
            if unknown is not None:
                raise ModelNotFoundError(f"{key}: model {unknown!r} is not in the pool", param=key)
        if chat.model in pool:
            for option in _STEERS_THE_POLICY:
                if option in controls.wishes:
                    raise RequestError(
                        f"{option} steers the policy; with model {chat.model!r} there is none,"
                        f" ask for model {POLICY_MODEL!r}",
                        param=option,
                    )
            return self._named((chat.model,), controls)
        name, colon, preset = chat.model.partition(":")
        if name != POLICY_MODEL:
            raise ModelNotFoundError(
                f"model {chat.model!r} is unknown; GET /v1/models lists what there is", param="model"
            )
        wishes = controls.wishes
        if colon:
            if preset not in self._router.settings.presets:
                raise ModelNotFoundError(
                    f"model {chat.model!r} is unknown; there are the presets"
                    f" {', '.join(self._router.settings.presets)}",
                    param="model",
                )
            wishes = {"preset": preset, **wishes}
        preference = self._router.preference(**wishes)
        if session is not None and session.model in pool:
            if awaits_tool_results(chat.request) and scope.excludes(pool[session.model]) is None:
                stays = replace(preference, max_turns=max(2, preference.max_turns))
                return Assignment(Named((session.model,), self._router.policy), stays, scope, {})
            return Assignment(None, preference, scope, session.warm_tokens(time.time()))
        return Assignment(None, preference, scope, {})

    def _named(self, models: Sequence[str], controls: Controls) -> Assignment:
        preference = replace(self._router.preference(**controls.wishes), max_turns=len(models))
        scope = controls.scope
        allowed = [name for name in models if scope.excludes(self._router.pool[name]) is None]
        if not allowed:
            why = scope.excludes(self._router.pool[models[0]])
            raise RequestError(f"model {models[0]!r} may not be asked: {why}", param="model")
        return Assignment(Named(allowed), preference, replace(scope, allowed=frozenset(allowed)), {})

    async def _plan(self, chat: Chat, assignment: Assignment, reply: Reply) -> None:
        plan = await self._router.plan(
            chat.request,
            assignment.preference,
            policy=assignment.policy,
            scope=assignment.scope,
            warm_tokens=assignment.warm_tokens,
        )
        await reply.json(200, plan_object(plan))


def _session(answer: Answer) -> Session:
    return Session(answer.model, answer.episode.completion.usage.prompt_tokens, time.time())
