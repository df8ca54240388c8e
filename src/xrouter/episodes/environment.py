"""One request as a decision problem: a policy's decisions go in, what they brought comes out.

Every act uses one turn, a refused one too. All state is the instance's own; an instance serves one request.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from decimal import Decimal

from ..catalog.model import Model
from ..errors import (
    BudgetExceededError,
    DeadlineExceededError,
    EpisodeError,
    InvalidActionError,
    NoAnswerError,
    ProviderError,
)
from ..messages import Completion, Request, Usage
from ..providers.pool import Pool
from .answers import best_response
from .budget import MIN_OUTPUT_TOKENS, fit_budget
from .calls import PlannedCall, ask_all, plan_call
from .cost import affordable_output_tokens, predicted_cost
from .episode import (
    Action,
    Call,
    CallModels,
    Decision,
    DirectAnswer,
    Episode,
    Observation,
    Preference,
    Response,
    Select,
    Step,
    StopReason,
    Synthesis,
)
from .episode_id import new_episode_id
from .streaming import Sink, stream_one

MAX_CALLS_PER_TURN = 8
"""Whatever a policy wants; the network asks four at most."""

Predict = Callable[[Model, Request], Decimal]
"""Expected USD of asking this model this request."""


class Environment:
    """The rules of an episode over one pool, for one request and one preference.

    predict: what a call is expected to cost, checked against the cap before it is made. On top of it the
        output tokens of every call under a cap are limited so that even the worst case stays within it.
    allowed: names of the models that may be called; None = the whole pool. Whatever a policy wants, no other is.
    warm_tokens: by model, prompt tokens likely to be in its cache.
    sink: takes the answer of a call that is handed over as it comes; None = answers are whole.
    clock: seconds, monotonic. A decision's own tokens are charged before its calls; a cap cannot stop
        tokens that the policy has already spent.
    """

    def __init__(
        self,
        pool: Pool,
        request: Request,
        preference: Preference,
        *,
        predict: Predict = predicted_cost,
        clock: Callable[[], float] = time.monotonic,
        episode_id: str | None = None,
        allowed: frozenset[str] | None = None,
        sink: Sink | None = None,
        warm_tokens: Mapping[str, int] | None = None,
    ) -> None:
        self.id = episode_id or new_episode_id()
        self._allowed = allowed
        self._sink = sink
        self._warm_tokens = warm_tokens or {}
        self._pool = pool
        self._request = request
        self._preference = preference
        self._predict = predict
        self._clock = clock
        self._started = clock()
        self._turns = 1 if preference.simple else max(1, preference.max_turns)
        self._steps: list[Step] = []
        self._responses: tuple[Response, ...] = ()
        self._errors: tuple[str, ...] = ()
        self._policy_cost = Decimal(0)
        self._policy_usage = Usage()
        self._cut_short: list[Decision] = []
        self._episode: Episode | None = None
        self._failure: EpisodeError | None = None

    @property
    def done(self) -> bool:
        return self._episode is not None or self._failure is not None

    @property
    def observation(self) -> Observation:
        """What the policy may see now."""
        return Observation(
            request=self._request,
            pool=self._pool.models,
            preference=self._preference,
            responses=self._responses,
            turns_left=self._turns - len(self._steps),
            money_left_usd=self._money_left(),
            time_left_s=self._time_left(),
            errors=self._errors,
            allowed=self._allowed,
            streaming=self._sink is not None,
            warm_tokens=self._warm_tokens,
            steps=tuple(self._steps),
            cut_short=self._cut_short,
        )

    @property
    def episode(self) -> Episode:
        """The finished episode.

        Raises BudgetExceededError, DeadlineExceededError or NoAnswerError when it ended without any answer;
        the error's `episode` holds what was spent.
        """
        if self._failure is not None:
            raise self._failure
        if self._episode is None:
            raise NoAnswerError(f"episode {self.id} is not finished", episode=self.abandoned())
        return self._episode

    def abandoned(self) -> Episode:
        """What has been spent so far as an episode without an answer: for the books when a request goes no further."""
        self._charge_cut_short()
        return self._finish(
            Completion({"role": "assistant", "content": None}, Usage(), "error"), None, "failed"
        )

    async def step(self, decision: Decision) -> Observation:
        """Carry out one decision. What cannot be done is told in the next observation's `errors`.

        When cancelled, unfinished calls end, all that was asked is recorded in `abandoned()`, and the cancellation
        goes on.
        """
        if self.done:
            raise NoAnswerError(
                f"episode {self.id} is finished: start another environment", episode=self.abandoned()
            )
        self._charge(decision)
        action = decision.action
        if isinstance(action, CallModels):
            await self._call(decision, action.calls)
        else:
            self._answer(decision, action)
        return self.observation

    def refuse(self, error: InvalidActionError) -> Observation:
        """Spend a turn on a policy output that was no action; its text is the next observation's error."""
        decision = error.decision if isinstance(error.decision, Decision) else Decision(CallModels(()))
        self._charge(decision)
        self._record(decision, errors=(error.message,))
        return self.observation

    def stop(self, reason: StopReason, why: str) -> None:
        """End now with the best response so far: a deadline passed while the policy thought, or it failed."""
        if not self.done:
            self._charge_cut_short()
            self._end_at_limit(reason, why)

    # --- answers -------------------------------------------------------------------------------------------

    def _answer(self, decision: Decision, action: Select | DirectAnswer | Synthesis) -> None:
        error = self._objection(action)
        if error is not None:
            self._record(decision, errors=(error,))
            return
        self._steps.append(Step(decision))
        if isinstance(action, Select):
            chosen = next(r for r in self._responses if r.call_id == action.call_id)
            assert chosen.completion is not None
            self._end(chosen.completion, chosen, "selected", decision.confidence)
        else:
            completion = Completion(
                {"role": "assistant", "content": action.text},
                decision.usage,
                served_model=decision.policy_model.name if decision.policy_model else None,
            )
            reason: StopReason = "direct" if isinstance(action, DirectAnswer) else "synthesised"
            self._end(completion, None, reason, decision.confidence)

    def _objection(self, action: Action) -> str | None:
        """Why this way of ending is not open now; None if it is."""
        if isinstance(action, Select):
            chosen = next((r for r in self._responses if r.call_id == action.call_id), None)
            if chosen is None:
                known = ", ".join(r.call_id for r in self._responses if r.ok) or "none yet"
                return f"no response has call_id {action.call_id!r}; there are: {known}"
            if not chosen.ok:
                return f"call {action.call_id!r} failed and cannot be the answer: {chosen.error}"
        elif isinstance(action, DirectAnswer):
            if self._responses:
                return "a direct answer is open before any call only: select a response or write a synthesis"
        elif not self._responses:
            return "a synthesis needs responses: call models first or answer directly"
        if isinstance(action, (DirectAnswer, Synthesis)) and not action.text.strip():
            return "the answer is empty: write a text, select a response or call a model"
        return None

    # --- calls ---------------------------------------------------------------------------------------------

    async def _call(self, decision: Decision, calls: tuple[Call, ...]) -> None:
        planned, errors = self._plan(calls)
        unaffordable: list[str] = []
        money = self._money_left()
        if money is not None:
            planned, unaffordable = fit_budget(planned, money)
        time_left = self._time_left()
        if time_left is not None and time_left <= 0:
            self._record(decision, errors=tuple(errors))
            return
        turn = len(self._steps) + 1
        responses: list[Response] = []
        try:
            if self._sink is not None and decision.hand_over and len(planned) == 1:
                await stream_one(planned[0], self._pool, turn, time_left, self._sink, responses)
            else:
                await ask_all(planned, self._pool, turn, time_left, responses)
        finally:
            self._record(decision, tuple(responses), (*errors, *unaffordable), broke=bool(unaffordable))

    def _plan(self, calls: tuple[Call, ...]) -> tuple[list[PlannedCall], list[str]]:
        if not calls:
            return [], ["no model was named: call at least one, or answer"]
        if self._preference.simple and len(calls) > 1:
            return [], [f"simple mode allows one call, got {len(calls)}"]
        planned: list[PlannedCall] = []
        errors: list[str] = []
        if len(calls) > MAX_CALLS_PER_TURN:
            errors.append(
                f"a turn takes {MAX_CALLS_PER_TURN} calls, got {len(calls)}: the first of them are made"
            )
            calls = calls[:MAX_CALLS_PER_TURN]
        for call in calls:
            if call.model not in self._pool:
                names = ", ".join(model.name for model in self._pool)
                errors.append(f"model {call.model!r} is not in the pool; it has {names}")
                continue
            if self._allowed is not None and call.model not in self._allowed:
                errors.append(f"model {call.model!r} may not be called for this request")
                continue
            call_id = f"c{len(self._responses) + len(planned) + 1}"
            model = self._pool[call.model]
            request = plan_call(self._request, call)
            planned.append(PlannedCall(call_id, model, request, self._predict(model, request)))
        return planned, errors

    # --- ending --------------------------------------------------------------------------------------------

    def _record(
        self,
        decision: Decision,
        responses: tuple[Response, ...] = (),
        errors: tuple[str, ...] = (),
        *,
        broke: bool = False,
    ) -> None:
        """Add the step and end the episode where a limit is reached. `broke`: a call was refused for money."""
        self._steps.append(Step(decision, responses, errors))
        self._responses += responses
        self._errors = errors
        money, time_left = self._money_left(), self._time_left()
        final = len(responses) == 1 and (self._preference.simple or decision.hand_over)
        if final and responses[0].completion is not None:
            reason: StopReason = "simple" if self._preference.simple else "selected"
            self._end(responses[0].completion, responses[0], reason, decision.confidence)
        elif responses and responses[-1].partial:
            # Part of this answer has reached the client: no other can take its place.
            self._fail(responses[-1].error or "the stream broke off", NoAnswerError, responses[-1].fault)
        elif time_left is not None and time_left <= 0:
            self._end_at_limit("time_limit", f"the deadline of {self._preference.deadline_s} s passed")
        elif money is not None and (money < 0 or (broke and not self._can_pay(money))):
            self._end_at_limit(
                "cost_limit",
                f"the cost cap of {self._preference.max_cost_usd} USD leaves no further call affordable",
            )
        elif len(self._steps) >= self._turns:
            last_words = f"; last: {errors[-1]}" if errors else ""
            broke_now: StopReason = "cost_limit" if broke and not responses else "turn_limit"
            self._end_at_limit(broke_now, f"all {self._turns} turns were used{last_words}")

    def _can_pay(self, money: Decimal) -> bool:
        return any(
            self._predict(model, self._request) <= money
            and affordable_output_tokens(model, self._request, money) >= MIN_OUTPUT_TOKENS
            for model in self._pool
            if self._allowed is None or model.name in self._allowed
        )

    def _end_at_limit(self, reason: StopReason, why: str) -> None:
        best = best_response(self._responses, self._pool)
        if best is not None and best.completion is not None:
            self._end(best.completion, best, reason, None, degraded=why)
            return
        kinds: dict[str, type[EpisodeError]] = {
            "time_limit": DeadlineExceededError,
            "cost_limit": BudgetExceededError,
        }
        kind = kinds.get(reason, NoAnswerError)
        faults = [response.fault for response in self._responses]
        alike = kind is NoAnswerError and len({type(fault) for fault in faults}) == 1
        if alike and len(faults) == 1 and faults[0] is not None:
            self._fail(faults[0].message, kind, faults[0])
            return
        failures = "; ".join(f"{r.model}: {r.error}" for r in self._responses)
        message = f"no answer: {why}" + (f" ({failures})" if failures else "")
        self._fail(message, kind, faults[-1] if alike else None)

    def _fail(self, message: str, kind: type[EpisodeError], fault: ProviderError | None) -> None:
        self._failure = kind(message, episode=self.abandoned(), fault=fault)

    def _end(
        self,
        completion: Completion,
        answer_from: Response | None,
        reason: StopReason,
        confidence: float | None,
        degraded: str | None = None,
    ) -> None:
        fallback = self._steps[-1].decision.fallback if self._steps else None
        reasons = (degraded, fallback, _flawed(answer_from), self._preference.shortfall(confidence))
        why = "; ".join(filter(None, reasons)) or None
        self._episode = self._finish(completion, answer_from, reason, confidence, why)

    def _finish(
        self,
        completion: Completion,
        answer_from: Response | None,
        reason: StopReason,
        confidence: float | None = None,
        degraded: str | None = None,
    ) -> Episode:
        return Episode(
            id=self.id,
            request=self._request,
            preference=self._preference,
            steps=tuple(self._steps),
            completion=completion,
            answer_from=answer_from,
            stop_reason=reason,
            cost_usd=self._cost(),
            usage=sum((paid.usage for r in self._responses for paid in r.paid), self._policy_usage),
            latency_s=self._clock() - self._started,
            confidence=confidence,
            degraded=degraded,
        )

    # --- money and time ------------------------------------------------------------------------------------

    def _charge_cut_short(self) -> None:
        while self._cut_short:
            decision = self._cut_short.pop(0)
            self._charge(decision)
            self._steps.append(Step(decision))

    def _charge(self, decision: Decision) -> None:
        if decision.policy_model is not None:
            self._policy_cost += decision.policy_model.price.cost(decision.usage)
            self._policy_usage += decision.usage

    def _cost(self) -> Decimal:
        return sum((paid.cost_usd for r in self._responses for paid in r.paid), self._policy_cost)

    def _money_left(self) -> Decimal | None:
        cap = self._preference.max_cost_usd
        return None if cap is None else cap - self._cost()

    def _time_left(self) -> float | None:
        deadline = self._preference.deadline_s
        return None if deadline is None else deadline - (self._clock() - self._started)


def _flawed(answer_from: Response | None) -> str | None:
    """Why an answer that is handed over is no sound one; None if it is."""
    if answer_from is None or not answer_from.flaws:
        return None
    return f"the answer of {answer_from.model} is flawed: {', '.join(sorted(answer_from.flaws))}"
