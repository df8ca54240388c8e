"""Serves an array policy: one observation becomes a batch of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..catalog.model import Model
from ..episodes.agreement import agreement
from ..episodes.budget import least_money
from ..episodes.cost import estimate_prompt_tokens
from ..episodes.episode import Call, CallModels, Decision, Observation, Select
from ..messages import Request
from .baselines import list_price_BM
from .doubt import doubt
from .states import ArrayPolicy, Bools, States
from .target_quality import TargetQuality


class ServedPolicy:
    """An `ArrayPolicy` as a `Policy`. Raises RequestError where a target quality is asked of one without confidence."""

    def __init__(self, inner: ArrayPolicy) -> None:
        self.inner = inner
        self._policy = TargetQuality(inner)
        self.name = inner.name
        self.version = inner.version

    async def act(self, observation: Observation) -> Decision:
        return self.decide(observation)

    def decide(self, observation: Observation) -> Decision:
        """The decision, without an event loop."""
        states = observe(observation)
        choices = self._policy.decide(self.inner.encode([observation.request.query]), states)
        confidence = float(choices.confidence_B[0])
        sure = None if np.isnan(confidence) else confidence
        outside = not choices.familiar_B[0]
        selected = int(choices.select_B[0])
        if selected >= 0:
            name = observation.pool[selected].name
            response = next(r for r in reversed(observation.responses) if r.model == name and r.ok)
            return Decision(Select(response.call_id), sure, outside_training=outside)
        called = np.flatnonzero(choices.call_BM[0])
        if not len(called):
            called = last_resort(states)
        calls = tuple(Call(observation.pool[i].name) for i in called)
        return Decision(CallModels(calls), sure, outside_training=outside)


def observe(observation: Observation) -> States:
    """The observation as arrays. Of several responses of one model the last one counts."""
    pool, request = observation.pool, observation.request
    position = {model.name: i for i, model in enumerate(pool)}
    size = (1, len(pool))
    responded, failed = np.zeros(size, bool), np.zeros(size, bool)
    answer, tokens, cost = np.full(size, -1, np.int64), np.zeros(size), np.zeros(size)
    doubt_BM = np.zeros(size)
    agreeing = agreement(observation.responses)
    for response, answer_class in zip(observation.responses, agreeing.classes, strict=True):
        at = (0, position[response.model])
        responded[at], failed[at] = response.ok, not response.ok
        answer[at] = answer_class
        doubt_BM[at] = doubt(response)
        tokens[at] = response.usage.completion_tokens
        cost[at] += float(response.cost_usd)
    prompt_tokens = estimate_prompt_tokens(request)
    preference = observation.preference
    turns_left = 1 if preference.simple else observation.turns_left
    return States(
        models=pool,
        cost_weight_B=np.array([preference.cost_weight]),
        target_quality_B=np.array([preference.target_quality or np.nan]),
        turns_left_B=np.array([turns_left]),
        money_left_B=np.array(
            [np.inf if observation.money_left_usd is None else float(observation.money_left_usd)]
        ),
        prompt_tokens_B=np.array([prompt_tokens], np.float64),
        allowed_BM=(
            able_M(pool, request, prompt_tokens) & affordable_M(observation) & permitted_M(observation)
        )[None]
        & ~responded
        & ~failed,
        responded_BM=responded,
        failed_BM=failed,
        answer_BM=answer,
        tokens_BM=tokens,
        cost_BM=cost,
        doubt_BM=doubt_BM,
        alike_B=np.array([agreeing.by_similarity]),
    )


def able_M(pool: tuple[Model, ...], request: Request, prompt_tokens: int) -> Bools:
    """Models that can take this request: context window, tools, images. All of them where none fits."""
    needs = {"image"} if has_image(request) else set()
    needs_tools = bool(request.params.get("tools"))
    able = np.array(
        [
            prompt_tokens < model.context_window
            and (model.tools or not needs_tools)
            and needs <= set(model.modalities)
            for model in pool
        ]
    )
    return able if able.any() else np.ones(len(pool), bool)


def affordable_M(observation: Observation) -> Bools:
    """Models that the environment would not refuse under the cost cap, were each called alone."""
    request, money = observation.request, observation.money_left_usd
    if money is None:
        return np.ones(len(observation.pool), bool)
    return np.array([least_money(model, request) <= money for model in observation.pool])


def permitted_M(observation: Observation) -> Bools:
    """Models that this request may use at all."""
    allowed = observation.allowed
    if allowed is None:
        return np.ones(len(observation.pool), bool)
    return np.array([model.name in allowed for model in observation.pool])


def last_resort(states: States) -> NDArray[np.int64]:
    """The cheapest model by list price, of one episode under a cap without any response, where a policy sees none
    that it can pay for: the environment limits the answer's length to the money left, or says that there is too
    little. Empty in any other situation, and where every model was tried.
    """
    if np.isinf(states.money_left_B[0]) or states.responded_BM.any():
        return np.array([], np.int64)
    untried = ~states.responded_BM[0] & ~states.failed_BM[0]
    candidates = states.allowed_BM[0] if states.allowed_BM.any() else untried
    cheapest = np.where(candidates, list_price_BM(states)[0], np.inf).argmin()
    return np.array([cheapest] if candidates.any() else [], np.int64)


def has_image(request: Request) -> bool:
    def is_image(part: Any) -> bool:
        return isinstance(part, Mapping) and part.get("type") in ("image_url", "input_image", "image")

    return any(
        is_image(part)
        for message in request.messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
    )
