"""Serves an array policy: observations become arrays, and its choices decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf, isnan, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..catalog.model import Model
from ..catalog.price import MILLION
from ..episodes.agreement import agreement
from ..episodes.budget import least_money
from ..episodes.cost import EXPECTED_OUTPUT_TOKENS, estimate_prompt_tokens
from ..episodes.episode import Call, CallModels, Decision, Observation, Response, Select
from ..messages import Completion, Request, Usage
from .baselines import list_price_BM
from .batching import Batching
from .doubt import doubt
from .memory import ByPool, RememberedQueries
from .states import ArrayPolicy, Bools, Choices, Floats, States
from .target_quality import TargetQuality

FEW = 3
"""So many observations are decided one after the other: a batch of them, first turns and second ones mixed, takes longer."""


class ServedPolicy:
    """An `ArrayPolicy` as a `Policy`. Raises RequestError where a target quality is asked of one without confidence.

    What is asked within one turn of the event loop is decided together (`batching`), and a query is encoded once.
    """

    def __init__(self, inner: ArrayPolicy) -> None:
        self.inner = inner
        self.name = inner.name
        self.version = inner.version
        self._policy = TargetQuality(inner)
        self._encode = RememberedQueries(inner.encode)
        self._pool_view = ByPool(PoolView)
        self._batching = Batching(self.decide_all, lambda observation: id(observation.pool))

    async def act(self, observation: Observation) -> Decision:
        decision = await self._batching(observation)
        if not observation.streaming:
            return decision
        imagined = imagined_answer(observation, decision)
        if imagined is None:
            return decision
        after = await self._batching(imagined)
        kept = after.action == Select(imagined.responses[-1].call_id)
        return replace(decision, hand_over=True, confidence=after.confidence) if kept else decision

    def decide(self, observation: Observation) -> Decision:
        """The decision, without an event loop."""
        return self.decide_all([observation])[0]

    def decide_all(self, observations: Sequence[Observation]) -> list[Decision]:
        """Decisions on observations of one and the same pool."""
        text_BD = self._encode([observation.request.query for observation in observations])
        if len(observations) > FEW:
            return self._decide(observations, text_BD)
        return [
            decision
            for row, observation in enumerate(observations)
            for decision in self._decide([observation], text_BD[row : row + 1])
        ]

    def _decide(self, observations: Sequence[Observation], text_BD: Floats) -> list[Decision]:
        states = observe_all(observations, self._pool_view(observations[0].pool))
        choices = self._policy.decide(text_BD, states)
        return [_decision(observation, states, choices, row) for row, observation in enumerate(observations)]


def _decision(observation: Observation, states: States, choices: Choices, row: int) -> Decision:
    confidence = choices.confidence_B.item(row)
    sure = None if isnan(confidence) else confidence
    outside = not choices.familiar_B[row]
    selected = choices.select_B.item(row)
    if selected >= 0:
        name = observation.pool[selected].name
        response = next(r for r in reversed(observation.responses) if r.model == name and r.ok)
        return Decision(Select(response.call_id), sure, outside_training=outside)
    called = choices.call_BM[row].nonzero()[0].tolist()
    if not called:
        called = last_resort(states.rows(np.array([row]))).tolist()
    calls = tuple(Call(observation.pool[i].name) for i in called)
    return Decision(CallModels(calls), sure, outside_training=outside)


class PoolView:
    """What observing needs to know of a pool's models, in their order. context_M: tokens."""

    def __init__(self, models: tuple[Model, ...]) -> None:
        self.models = models
        self.position = {model.name: i for i, model in enumerate(models)}
        self.context_M = np.array([model.context_window for model in models])
        self.tools_M = np.array([model.tools for model in models], bool)
        self.image_M = np.array(["image" in model.modalities for model in models], bool)


def imagined_answer(observation: Observation, decision: Decision) -> Observation | None:
    """The observation after the one call of this decision, had it brought a sound answer of the usual length.

    What is decided there tells, before the call, whether its answer will be handed over and can be streamed at once.
    None where several models are asked, or answers are at hand that the new one might agree with.
    """
    action = decision.action
    if (
        not isinstance(action, CallModels)
        or len(action.calls) != 1
        or any(r.ok for r in observation.responses)
    ):
        return None
    model = next(model for model in observation.pool if model.name == action.calls[0].model)
    usage = Usage(
        estimate_prompt_tokens(observation.request), model.typical_output_tokens or EXPECTED_OUTPUT_TOKENS
    )
    imagined = Response(
        call_id="imagined",
        model=model.name,
        turn=1,
        completion=Completion({"role": "assistant", "content": "imagined"}, usage),
        answer="imagined",
        usage=usage,
        cost_usd=model.price.cost(usage),
        latency_s=0.0,
    )
    return replace(
        observation,
        responses=(*observation.responses, imagined),
        turns_left=max(1, observation.turns_left - 1),
        streaming=False,
    )


def observe(observation: Observation) -> States:
    """The observation as arrays."""
    return observe_all([observation], PoolView(observation.pool))


def observe_all(observations: Sequence[Observation], view: PoolView) -> States:
    """Observations of one pool as arrays. Of several responses of one model the last one counts."""
    size = (len(observations), len(view.models))
    responded, failed = np.zeros(size, bool), np.zeros(size, bool)
    answer, tokens, cost = np.full(size, -1, np.int64), np.zeros(size), np.zeros(size)
    doubts, alike = np.zeros(size), np.zeros(len(observations), bool)
    allowed = np.empty(size, bool)
    for row, observation in enumerate(observations):
        allowed[row] = callable_M(observation, view)
        if observation.responses:
            agreeing = agreement(observation.responses)
            alike[row] = agreeing.by_similarity
            for response, answer_class in zip(observation.responses, agreeing.classes, strict=True):
                at = (row, view.position[response.model])
                responded[at], failed[at] = response.ok, not response.ok
                answer[at] = answer_class
                doubts[at] = doubt(response)
                tokens[at] = response.usage.completion_tokens
                cost[at] += float(response.cost_usd)
    discount: Any = 0.0
    if any(observation.warm_tokens for observation in observations):
        discount = np.zeros(size)
        for row, observation in enumerate(observations):
            for name, warm in observation.warm_tokens.items():
                if name in view.position:
                    discount[row, view.position[name]] = cache_discount(
                        view.models[view.position[name]], warm
                    )
    preferences = [observation.preference for observation in observations]
    return States(
        models=view.models,
        cost_weight_B=np.array([preference.cost_weight for preference in preferences], np.float64),
        target_quality_B=np.array([preference.target_quality or nan for preference in preferences]),
        turns_left_B=np.array(
            [
                1 if preference.simple else observation.turns_left
                for preference, observation in zip(preferences, observations, strict=True)
            ]
        ),
        money_left_B=np.array(
            [
                inf if observation.money_left_usd is None else float(observation.money_left_usd)
                for observation in observations
            ]
        ),
        prompt_tokens_B=np.array(
            [estimate_prompt_tokens(observation.request) for observation in observations], np.float64
        ),
        allowed_BM=allowed & ~(responded | failed),
        responded_BM=responded,
        failed_BM=failed,
        answer_BM=answer,
        tokens_BM=tokens,
        cost_BM=cost,
        doubt_BM=doubts,
        alike_B=alike,
        discount_BM=np.asarray(discount),
    )


def cache_discount(model: Model, warm_tokens: int) -> float:
    """USD that a prompt cache holding so many tokens takes off the model's next call."""
    rates = model.price.rates
    cached = rates.input if rates.cached_input is None else rates.cached_input
    return float(warm_tokens * (rates.input - cached) / MILLION)


def callable_M(observation: Observation, view: PoolView) -> Bools:
    """Models that this request may use, could take, and would not be refused for money."""
    allowed_M = able_M(view, observation.request)
    if observation.money_left_usd is not None:
        allowed_M = allowed_M & affordable_M(observation)
    if observation.allowed is not None:
        allowed_M = allowed_M & [model.name in observation.allowed for model in view.models]
    return allowed_M


def able_M(view: PoolView, request: Request) -> Bools:
    """Models that can take this request: context window, tools, images. All of them where none fits."""
    able = estimate_prompt_tokens(request) < view.context_M
    if request.params.get("tools"):
        able &= view.tools_M
    if has_image(request):
        able &= view.image_M
    return able if able.any() else np.ones(len(able), bool)


def affordable_M(observation: Observation) -> Bools:
    """Models that the environment would not refuse under the cost cap, were each called alone."""
    request, money = observation.request, observation.money_left_usd
    if money is None:
        return np.ones(len(observation.pool), bool)
    return np.array([least_money(model, request) <= money for model in observation.pool])


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
    for message in request.messages:
        content = message.get("content")
        if isinstance(content, list) and any(map(_is_image, content)):
            return True
    return False


def _is_image(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in ("image_url", "input_image", "image")
