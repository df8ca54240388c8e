"""Asking models, several at once: every call ends as a Response, whatever happens to it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from ..catalog.model import Model
from ..deadlines import within
from ..errors import (
    ProviderAuthError,
    ProviderError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    RunStoppedError,
)
from ..messages import Completion, Request, Usage
from ..providers.pool import Pool
from .answers import comparable_answer, marked_answer
from .call_answers import answer_where_offered, offers_functions
from .cost import estimate_prompt_tokens
from .episode import Call, Response
from .plausible import believed
from .response_flaws import Flaw, flaws, leaves_no_answer

log = logging.getLogger(__name__)

REFUSALS = (
    ProviderAuthError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderUnavailableError,
)
"""Errors of a model that did no work: nothing is charged for it."""


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call about to be made: the request as the model will get it, and its predicted cost in USD.

    unlimited: the request before a cost cap limited its output; None where none did.
    """

    call_id: str
    model: Model
    request: Request
    predicted_cost: Decimal
    unlimited: Request | None = None

    def noting_side_calls(self) -> PlannedCall:
        """The same call, its request with an empty list for side calls of its own."""
        request = self.request.noting_side_calls()
        return PlannedCall(self.call_id, self.model, request, self.predicted_cost, self.unlimited)


def plan_call(request: Request, call: Call) -> Request:
    """The client's request with what the policy wrote for this call, and nothing else changed."""
    if call.system_prompt:
        request = request.with_system_prompt(call.system_prompt)
    if call.temperature is not None:
        request = request.with_params(temperature=call.temperature)
    return request


async def ask_all(
    calls: Sequence[PlannedCall],
    pool: Pool,
    turn: int,
    time_left_s: float | None,
    responses: list[Response],
) -> None:
    """Make the calls at the same time and append a response for each to `responses`, in the order of `calls`.

    A call that has not finished after `time_left_s` seconds, or when this is cancelled, is ended and becomes
    a failed response, booked at its estimated prompt: the upstream may charge for what it had read.
    Raises RunStoppedError where a call came upon the end of a whole run; the episode is then worth nothing.
    """
    if not calls:
        return
    started = time.monotonic()
    calls = [call.noting_side_calls() for call in calls]
    if len(calls) == 1:
        await _ask_one(calls[0], pool, turn, time_left_s, responses)
        return
    tasks = [asyncio.create_task(_ask(call, pool, turn)) for call in calls]
    try:
        await asyncio.wait(tasks, timeout=time_left_s)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        waited = time.monotonic() - started
        for call, task in zip(calls, tasks, strict=True):
            response = _ended(call, turn, waited) if task.cancelled() else task.result()
            responses.append(with_side_calls(call, response))


async def _ask_one(
    call: PlannedCall, pool: Pool, turn: int, time_left_s: float | None, responses: list[Response]
) -> None:
    """`ask_all` of a single call, in the current task: most turns are one."""
    started = time.monotonic()
    response = None
    try:
        with within(time_left_s) as deadline:
            response = await _ask(call, pool, turn)
    except TimeoutError:
        if not deadline.expired():
            raise
    finally:
        response = response or _ended(call, turn, time.monotonic() - started)
        responses.append(with_side_calls(call, response))


def _ended(call: PlannedCall, turn: int, waited_s: float) -> Response:
    fault = unfinished(call, waited_s)
    return failed_response(call, turn, billed_usage(call, fault), waited_s, fault)


async def _ask(call: PlannedCall, pool: Pool, turn: int) -> Response:
    started = time.monotonic()
    fault: ProviderError
    try:
        completion = await pool.provider_of(call.model).complete(call.model, call.request)
    except ProviderError as error:
        fault = error
    except RunStoppedError:
        raise
    except Exception as error:
        log.exception("provider %s raised outside its contract", call.model.provider)
        fault = ProviderError(
            f"the provider broke its contract: {type(error).__name__}", model=call.model.name
        )
    else:
        response = good_response(call, turn, completion)
        return response if completion.latency_s else replace(response, latency_s=time.monotonic() - started)
    return failed_response(call, turn, billed_usage(call, fault), time.monotonic() - started, fault)


def good_response(call: PlannedCall, turn: int, completion: Completion) -> Response:
    usage = believed(completion.usage, call.model, call.request)
    if usage is not completion.usage:
        completion = replace(completion, usage=usage)
    found = flaws(call.unlimited or call.request, completion)
    return Response(
        call_id=call.call_id,
        model=call.model.name,
        turn=turn,
        completion=completion,
        answer=_answer(call.request, completion, found),
        usage=usage,
        cost_usd=call.model.price_at(completion.endpoint).cost(usage),
        latency_s=completion.latency_s,
        flaws=found,
    )


def _answer(request: Request, completion: Completion, found: frozenset[Flaw]) -> str | None:
    """The response's final answer, comparable; of one that was cut off only what it had marked as its answer."""
    if leaves_no_answer(found):
        return None
    answer, functions_offered = completion.answer, offers_functions(request)
    if answer is not None:
        return answer_where_offered(answer) if functions_offered else answer
    if found and not completion.tool_calls:
        return marked_answer(completion.text)
    return comparable_answer(
        completion.text,
        completion.tool_calls,
        question=request.query,
        functions_offered=functions_offered,
    )


def failed_response(
    call: PlannedCall, turn: int, usage: Usage, latency_s: float, fault: ProviderError
) -> Response:
    usage = believed(usage, call.model, call.request)
    return Response(
        call_id=call.call_id,
        model=call.model.name,
        turn=turn,
        completion=None,
        answer=None,
        usage=usage,
        cost_usd=call.model.price_at(fault.endpoint).cost(usage),
        latency_s=latency_s,
        error=fault.message,
        fault=fault,
    )


def with_side_calls(call: PlannedCall, response: Response) -> Response:
    """The response with what was called beside it, once the call is over."""
    if not call.request.side_calls:
        return response
    beside = [
        Response(
            call_id=f"{response.call_id}.{number}",
            model=response.model,
            turn=response.turn,
            completion=None,
            answer=None,
            usage=side.usage,
            cost_usd=call.model.price_at(side.endpoint).cost(side.usage),
            latency_s=side.latency_s,
            error=side.error,
        )
        for number, side in enumerate(call.request.side_calls, start=1)
    ]
    return replace(response, side_calls=tuple(beside))


def billed_usage(call: PlannedCall, fault: ProviderError, written: Usage | None = None) -> Usage:
    """What a failed call counts for: as the upstream reported, else what came of it (`written`), else the prompt.

    Nothing where the upstream refused: it did no work.
    """
    if isinstance(fault.usage, Usage):
        return fault.usage
    if written is not None:
        return written
    if isinstance(fault, REFUSALS):
        return Usage()
    return Usage(prompt_tokens=estimate_prompt_tokens(call.request), estimated=True)


def unfinished(call: PlannedCall, waited_s: float) -> ProviderTimeoutError:
    return ProviderTimeoutError(
        f"not finished after {waited_s:.3f} s: the call was ended", model=call.model.name
    )
