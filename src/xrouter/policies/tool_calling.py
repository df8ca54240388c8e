"""The policy that is a language model: any OpenAI-compatible chat endpoint, with the pool as its tools.

An instance holds no state of any request: what was decided before is read off the observation.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from ..catalog.model import Model
from ..episodes.actions import SELECT, tool_schemas
from ..episodes.budget import least_money
from ..episodes.cost import affordable_output_tokens, bound_prompt_tokens, estimate_prompt_tokens
from ..episodes.episode import CallModels, Decision, Observation, Preference
from ..errors import (
    InvalidActionError,
    ProviderError,
    ProviderResponseError,
    ProviderTimeoutError,
)
from ..messages import Completion, Message, Request, Usage
from ..providers.provider import Provider
from ..settings_tables.router_llm import MIN_DECISION_TOKENS, CallArgument, RouterLLMSettings
from .router_instructions import instructions
from .router_reply import Reply, read_reply
from .router_turns import turns
from .router_view import SHORTEST_CUT, viewed
from .stand_in import stand_in

CHARACTERS_PER_TOKEN = 3
"""Of the conversation, to fit the router's window; fewer than in English prose, to be on the safe side."""

TOKENS_OF_RULES, TOKENS_OF_A_TOOL = 4_000, 800
"""At most, counted as a token a byte."""


@dataclass(frozen=True, slots=True)
class _Answered:
    """What the router's endpoint said, and what it cost. usage: failed attempts included."""

    completion: Completion | None
    usage: Usage
    seconds: float
    fault: ProviderError | None = None


class ToolCallingPolicy:
    """Asks `model` at `provider` in each turn; its tokens are charged and booked as the decision's.

    options: as in the settings' table [router_llm]; `url`, `key_env` and `price` are not read here.
    """

    def __init__(self, provider: Provider, model: Model, options: RouterLLMSettings | None = None) -> None:
        self.provider: Provider = provider
        self.model = model
        self.options = options or RouterLLMSettings()
        self.name = "tool-calling"
        self.version = model.name

    async def act(self, observation: Observation) -> Decision:
        """Raises InvalidActionError with what the reply cost where it is no action, and ProviderError where the endpoint
        is down and `on_failure` is "error"."""
        offered = offered_models(observation)
        request = self.request(observation, offered)
        limit = self._output_limit(request, observation, offered)
        if limit < MIN_DECISION_TOKENS:
            why = f"the cost cap leaves no money for {self.model.name} to decide"
            return self._stand_in(observation, offered, why)
        answered = await self._ask(request.with_params(**{self._limit_name: limit}), observation)
        if answered.completion is None:
            assert answered.fault is not None
            if self.options.on_failure == "error":
                self._note_cut_short(observation, answered)
                raise answered.fault
            why = f"{self.model.name} could not decide: {answered.fault.message}"
            return self._booked(
                self._stand_in(observation, offered, why), answered, {"router_unavailable": 1}
            )
        reply = read_reply(
            answered.completion,
            observation,
            offered,
            max_calls=self.options.max_calls,
            arguments=self.options.call_arguments,
            tools_in_text=self.options.tool_mode == "text",
        )
        return self._decision(reply, answered, observation, offered)

    def request(self, observation: Observation, offered: Sequence[Model]) -> Request:
        """What is sent to the router's endpoint, but for its output limit.

        The conversation and the responses each have a share of the window that does not depend on the turn, so that
        a turn only adds to what was sent in the one before.
        """
        options, window = self.options, self.model.context_window
        brief = options.prompt == "brief"
        schemas = tools_of(observation, offered, arguments=options.call_arguments, brief=brief)
        in_text = options.tool_mode == "text"

        def told(user_system_prompt: str = "") -> Message:
            written = instructions(
                observation,
                offered,
                own_rules=options.instructions,
                tools_in_text=schemas if in_text else (),
                user_system_prompt=user_system_prompt,
                arguments=options.call_arguments,
                brief=brief,
            )
            return {"role": "system", "content": written}

        responses = options.max_calls * (len(observation.steps) + observation.turns_left - 1)
        response_chars = options.max_response_chars
        if responses:
            longest = window // 2 * CHARACTERS_PER_TOKEN // responses
            response_chars = min(response_chars, max(SHORTEST_CUT, longest))
        rules = estimate_prompt_tokens(Request((told(),), {} if in_text else {"tools": schemas}))
        room = (window - options.max_tokens - rules) * CHARACTERS_PER_TOKEN - responses * response_chars
        system, conversation = viewed(
            observation.request,
            max_characters=max(0, room),
            merged=options.system_messages == "merged",
        )
        so_far = turns(observation, offered, max_response_chars=response_chars, in_text=in_text, brief=brief)
        return Request(
            (told(system), *conversation, *so_far),
            self._params(schemas, in_text),
            affinity=observation.request.affinity,
        )

    def worst_cost_usd(self, request: Request, pool: Sequence[Model], preference: Preference) -> Decimal:
        """Every turn at its longest: whole responses of as many models as may be called, and the whole output limit."""
        options = self.options
        turns_left = 1 if preference.simple else max(1, preference.max_turns)
        read = (turns_left - 1) * min(options.max_calls, len(pool)) * options.max_response_chars
        told = TOKENS_OF_RULES + TOKENS_OF_A_TOOL * len(pool)
        prompt = min(self.model.context_window, bound_prompt_tokens(request) + told + read)
        return turns_left * self.model.price.cost(Usage(prompt, options.max_tokens))

    async def aclose(self) -> None:
        await self.provider.aclose()

    @property
    def _limit_name(self) -> str:
        newer = "max_completion_tokens"
        return newer if newer in self.options.params else "max_tokens"

    def _params(self, schemas: Sequence[Mapping[str, Any]], in_text: bool) -> dict[str, Any]:
        options = self.options
        params: dict[str, Any] = {self._limit_name: options.max_tokens}
        if options.temperature is not None:
            params["temperature"] = options.temperature
        if not in_text:
            params |= {"tools": list(schemas), "tool_choice": "auto"}
            if options.parallel_calls:
                params["parallel_tool_calls"] = True
        return {**options.params, **params}

    def _output_limit(self, request: Request, observation: Observation, offered: Sequence[Model]) -> int:
        """Tokens that the decision may have: fewer where the cap leaves less, with room for one call where none was made."""
        most = min(self.options.max_tokens, self.model.max_output_tokens)
        money = observation.money_left_usd
        if money is None:
            return most
        if not any(response.ok for response in observation.responses):
            money -= min(least_money(model, observation.request) for model in offered)
        return min(most, affordable_output_tokens(self.model, request, money))

    async def _ask(self, request: Request, observation: Observation) -> _Answered:
        request = request.noting_side_calls()
        left = observation.time_left_s
        # Half of the time at most: should nothing come, a model can still be asked in the other half.
        timeout_s = self.options.timeout_s if left is None else min(self.options.timeout_s, left / 2)
        started = time.monotonic()
        completion, fault, usage = None, None, Usage()
        try:
            completion = await self.provider.complete(self.model, request, timeout_s=timeout_s)
            usage = completion.usage
        except ProviderError as error:
            fault = error
            if isinstance(error.usage, Usage):
                usage = error.usage
            elif isinstance(error, (ProviderTimeoutError, ProviderResponseError)):
                usage = _read_at_least(request)
        except asyncio.CancelledError:
            cut = _Answered(None, _read_at_least(request), time.monotonic() - started)
            self._note_cut_short(observation, cut)
            raise
        for beside in request.side_calls or ():
            usage += beside.usage
        return _Answered(completion, usage, time.monotonic() - started, fault)

    def _note_cut_short(self, observation: Observation, answered: _Answered) -> None:
        if observation.cut_short is not None:
            cut = self._booked(Decision(CallModels(())), answered, {"router_unavailable": 1})
            observation.cut_short.append(cut)

    def _decision(
        self, reply: Reply, answered: _Answered, observation: Observation, offered: Sequence[Model]
    ) -> Decision:
        last = observation.turns_left <= 1
        if reply.action is None:
            assert reply.error is not None
            answering = self.options.on_failure == "answer"
            if last and answering and not any(response.ok for response in observation.responses):
                why = f"{self.model.name} took no valid decision in the last turn: {reply.error.kind}"
                standing_in = self._stand_in(observation, offered, why)
                return self._booked(standing_in, answered, reply.problems)
            refused = self._booked(Decision(CallModels(())), answered, reply.problems, reply)
            raise InvalidActionError(
                reply.error.message, param=reply.error.param, decision=refused, kind=reply.error.kind
            )
        single = isinstance(reply.action, CallModels) and len(reply.action.calls) == 1
        decision = Decision(reply.action, hand_over=single and (last or observation.preference.simple))
        return self._booked(decision, answered, reply.problems, reply)

    def _booked(
        self,
        decision: Decision,
        answered: _Answered,
        problems: Mapping[str, int],
        reply: Reply | None = None,
    ) -> Decision:
        return replace(
            decision,
            usage=answered.usage,
            policy_model=self.model,
            policy_s=answered.seconds,
            problems=dict(problems),
            message=None if reply is None else reply.message,
            refused={} if reply is None else reply.refused,
        )

    def _stand_in(self, observation: Observation, offered: Sequence[Model], why: str) -> Decision:
        return stand_in(observation, offered, why, self.options.fallback_model)


def _read_at_least(request: Request) -> Usage:
    """What an endpoint that gave no answer may charge for."""
    return Usage(prompt_tokens=estimate_prompt_tokens(request), estimated=True)


def offered_models(observation: Observation) -> tuple[Model, ...]:
    """The models of the pool that may be called."""
    allowed = observation.allowed
    return tuple(model for model in observation.pool if allowed is None or model.name in allowed)


def tools_of(
    observation: Observation,
    offered: Sequence[Model],
    *,
    arguments: Collection[CallArgument] = (),
    brief: bool = False,
) -> list[dict[str, Any]]:
    """The routing tools; in simple mode there is nothing to select."""
    schemas = tool_schemas(offered, arguments=arguments, brief=brief)
    if observation.preference.simple:
        return [schema for schema in schemas if schema["function"]["name"] != SELECT]
    return schemas
