"""Who decides on a request, among which models, and with what in mind."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from ..accounts.caller import Caller
from ..episodes.cost import output_limit, worst_cost
from ..episodes.eligibility import Scope, nobody_eligible
from ..episodes.episode import Preference
from ..errors import ModelNotFoundError, RequestError
from ..messages import Request
from ..policies.named import Named
from ..policies.policy import PaidPolicy, Policy
from ..providers.fallbacks import chain
from ..router import Router
from .controls import Controls
from .sessions import Session, awaits_tool_results
from .wire import Chat

POLICY_MODEL = "xrouter"
"""The model name that means: let the policy decide."""

CALLS_RESERVED = 3
"""A budget sets aside the worst case of so many calls of the dearest model for a request that the policy decides on;
the request is capped at that."""

_STEERS_THE_POLICY = ("cost_weight", "target_quality", "max_turns", "simple")


@dataclass(frozen=True, slots=True)
class Assignment:
    """policy: None = the router's own. models: the pool's that may be asked, before anything is known of the request."""

    policy: Policy | None
    preference: Preference
    scope: Scope
    models: tuple[str, ...]
    warm_tokens: Mapping[str, int]

    def worst_cost_usd(self, router: Router, request: Request) -> Decimal:
        """What the request may cost at most, in USD; its own cap where that is less."""
        models = [router.pool[name] for name in self.models]
        dearest = max(worst_cost(model, request, output_limit(model, request)) for model in models)
        worst = dearest * (1 if isinstance(self.policy, Named) else CALLS_RESERVED)
        decider = self.policy or router.policy
        if isinstance(decider, Named):
            decider = decider.otherwise or decider
        if isinstance(decider, PaidPolicy):
            worst += decider.worst_cost_usd(request, models, self.preference)
        cap = self.preference.max_cost_usd
        return worst if cap is None else min(worst, cap)

    def capped(self, max_cost_usd: Decimal | None) -> Assignment:
        """The same under a budget's cap, if that is lower than the request's own."""
        own = self.preference.max_cost_usd
        if max_cost_usd is None or (own is not None and own <= max_cost_usd):
            return self
        return replace(self, preference=replace(self.preference, max_cost_usd=max_cost_usd))


def assign(
    router: Router, chat: Chat, controls: Controls, caller: Caller, session: Session | None
) -> Assignment:
    """Raises ModelNotFoundError, NotAllowedError, or RequestError for wishes that do not fit the model asked for."""
    pool, scope = router.pool, controls.scope
    for names, key in ((scope.allowed or (), "models"), (scope.forbidden, "exclude_models")):
        unknown = next((name for name in names if name not in pool), None)
        if unknown is not None:
            raise ModelNotFoundError(f"{key}: model {unknown!r} is not in the pool", param=key)
    if chat.model in pool:
        return _named(router, chat.model, controls, caller)
    preference = _preference(router, chat.model, controls)
    permitted = caller.allowed([model.name for model in pool])
    if len(permitted) < len(pool):
        scope = replace(scope, allowed=frozenset(permitted).intersection(scope.allowed or permitted))
    reasons = {model.name: why for model in pool if (why := scope.excludes(model)) is not None}
    models = tuple(name for name in permitted if name not in reasons)
    if not models:
        raise nobody_eligible(reasons)
    if session is None or session.model not in models:
        return Assignment(None, preference, scope, models, {})
    if awaits_tool_results(chat.request):
        stays = replace(preference, max_turns=max(2, preference.max_turns))
        return Assignment(Named((session.model,), router.policy), stays, scope, models, {})
    return Assignment(None, preference, scope, models, session.warm_tokens(time.time()))


def _preference(router: Router, name: str, controls: Controls) -> Preference:
    policy, colon, preset = name.partition(":")
    if policy != POLICY_MODEL:
        raise ModelNotFoundError(
            f"model {name!r} is unknown; GET /v1/models lists what there is", param="model"
        )
    if not colon:
        return router.preference(**controls.wishes)
    presets = router.settings.presets
    if preset not in presets:
        raise ModelNotFoundError(
            f"model {name!r} is unknown; there are the presets {', '.join(presets)}", param="model"
        )
    return router.preference(**{"preset": preset, **controls.wishes})


def _named(router: Router, name: str, controls: Controls, caller: Caller) -> Assignment:
    for option in _STEERS_THE_POLICY:
        if option in controls.wishes:
            raise RequestError(
                f"{option} steers the policy; with model {name!r} there is none, ask for model {POLICY_MODEL!r}",
                param=option,
            )
    caller.allowed((name,))
    why = controls.scope.excludes(router.pool[name])
    if why is not None:
        raise RequestError(f"model {name!r} may not be asked: {why}", param="model")
    models = tuple(
        each
        for each in caller.allowed(chain(name, router.settings))
        if controls.scope.excludes(router.pool[each]) is None
    )
    preference = router.preference(**controls.wishes).in_turns(len(models))
    scope = Scope(frozenset(models), controls.scope.forbidden, controls.scope.tags)
    return Assignment(Named(models), preference, scope, models, {})
