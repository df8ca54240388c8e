"""A pool model asked for by name: no policy, one call, booked as an episode like any other."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ..catalog.model import Model
from ..episodes.budget import fit_budget
from ..episodes.calls import PlannedCall
from ..episodes.cost import predicted_cost
from ..episodes.episode import (
    Call,
    CallModels,
    Decision,
    Episode,
    Observation,
    Preference,
    Response,
    Step,
    StopReason,
)
from ..errors import (
    BudgetExceededError,
    DeadlineExceededError,
    ProviderAuthError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderUnavailableError,
    XRouterError,
)
from ..messages import Chunk, Completion, Request, Usage
from ..providers.usage import estimate_usage, usage_object
from ..router import Answer, Router
from .reply import completion_id, xrouter_object

CALL_ID = "c1"

_NOTHING = Completion({"role": "assistant", "content": None}, Usage(), "error")

_UNBILLED = (
    ProviderAuthError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderUnavailableError,
)
"""Refusals: the model did no work, so nothing is charged for it."""


class Passthrough:
    """The policy of whoever names a model: call that one."""

    name = "passthrough"
    version = "1"

    def __init__(self, model: str) -> None:
        self.decision = Decision(CallModels((Call(model),)))

    async def act(self, observation: Observation) -> Decision:
        return self.decision


async def complete(router: Router, model: Model, request: Request, preference: Preference) -> Answer:
    """Ask `model` and book the call. Raises the provider's own error, once the failed call is booked."""
    request = within_cap(model, request, preference)
    call = _NamedCall(router, model, request, preference)
    try:
        completion = await router.pool.provider_of(model).complete(
            model, request, timeout_s=preference.deadline_s
        )
    except BaseException as error:
        await call.failed(error)
        raise
    return await call.answered(completion)


async def stream(
    router: Router, model: Model, request: Request, preference: Preference, *, include_usage: bool
) -> AsyncGenerator[dict[str, Any], None]:
    """The model's chunks as they come, under our id and the pool's name for it.

    The last chunk is held back until the rows are committed; it carries `xrouter`, and usage if that was asked for.
    Closing the generator early books what came until then.
    """
    request = within_cap(model, request, preference)
    call = _NamedCall(router, model, request, preference)
    head: dict[str, Any] = {"id": completion_id(call.id), "model": model.name}
    if include_usage:
        head["usage"] = None
    last: dict[str, Any] | None = None
    try:
        async with _chunks(router, model, request, preference) as chunks:
            async for chunk in chunks:
                call.read(chunk)
                if not chunk.data.get("choices"):
                    continue  # the upstream's usage chunk: ours comes at the end
                if last is not None:
                    yield last
                    last = None
                data = {name: value for name, value in chunk.data.items() if name != "usage"} | head
                if any(choice.get("finish_reason") for choice in data["choices"]):
                    last = data
                else:
                    yield data
    except BaseException as error:
        await call.failed(error)
        raise
    answer = await call.answered(call.streamed())
    last = last or call.last_chunk(head)
    if include_usage:
        yield last
        last = {**last, "choices": [], "usage": usage_object(answer.usage)}
    yield {**last, "xrouter": xrouter_object(answer)}


def within_cap(model: Model, request: Request, preference: Preference) -> Request:
    """The request, its output limited to what the cost cap pays for. Raises BudgetExceededError if that is nothing."""
    if preference.max_cost_usd is None:
        return request
    call = PlannedCall(CALL_ID, model, request, predicted_cost(model, request))
    fitting, refused = fit_budget([call], preference.max_cost_usd)
    if not fitting:
        raise BudgetExceededError("; ".join(refused))
    return fitting[0].request


@asynccontextmanager
async def _chunks(
    router: Router, model: Model, request: Request, preference: Preference
) -> AsyncIterator[AsyncIterator[Chunk]]:
    """The provider's stream under the request's deadline, closed at once when it is left."""
    upstream = router.pool.provider_of(model).stream(model, request, timeout_s=preference.deadline_s)
    loop = asyncio.get_running_loop()
    ends = None if preference.deadline_s is None else loop.time() + preference.deadline_s

    async def within_deadline() -> AsyncIterator[Chunk]:
        while True:
            try:
                async with asyncio.timeout_at(ends):
                    chunk = await anext(upstream)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise DeadlineExceededError(
                    f"model {model.name!r} was still answering after {preference.deadline_s:g} s"
                ) from error
            yield chunk

    try:
        yield within_deadline()
    finally:
        close = getattr(upstream, "aclose", None)
        if close is not None:
            await close()


class _NamedCall:
    """One call on its way into the books."""

    def __init__(self, router: Router, model: Model, request: Request, preference: Preference) -> None:
        self.id = uuid.uuid4().hex
        self._router = router
        self._model = model
        self._request = request
        self._preference = preference
        self._policy = Passthrough(model.name)
        self._started = time.monotonic()
        self._text: list[str] = []
        self._arguments: list[str] = []
        self._usage: Usage | None = None
        self._finish_reason = "stop"

    def read(self, chunk: Chunk) -> None:
        """Note what a chunk adds to the answer."""
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in chunk.data.get("choices") or ():
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            delta = choice.get("delta") or {}
            if delta.get("content"):
                self._text.append(delta["content"])
            for piece in delta.get("tool_calls") or ():
                self._arguments.append((piece.get("function") or {}).get("arguments") or "")

    def last_chunk(self, head: dict[str, Any]) -> dict[str, Any]:
        """The end of a choice, for an upstream that closed its stream in good order but named no reason."""
        choice = {"index": 0, "delta": {}, "finish_reason": self._finish_reason}
        created = int(time.time())
        return {"object": "chat.completion.chunk", "created": created, **head, "choices": [choice]}

    def streamed(self) -> Completion:
        message = {"role": "assistant", "content": "".join(self._text)}
        written = {"content": "".join(self._text + self._arguments)}
        usage = self._usage or estimate_usage(self._request, written)
        return Completion(message, usage, self._finish_reason, latency_s=self._elapsed())

    async def answered(self, completion: Completion) -> Answer:
        response = self._response(completion.usage, completion, None)
        episode = self._episode(response, completion, "simple")
        return Answer.of(episode, await self._router.book(episode, policy=self._policy))

    async def failed(self, error: BaseException) -> None:
        """Book a call that did not end well; what had come of it by then is counted."""
        if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            error, why = asyncio.CancelledError(), "cancelled: the client hung up"
        else:
            why = error.message if isinstance(error, XRouterError) else type(error).__name__
        reported = getattr(error, "usage", None)
        if isinstance(reported, Usage):
            usage = reported
        elif isinstance(error, _UNBILLED) and not self._text:
            usage = Usage()
        else:
            usage = self.streamed().usage
        episode = self._episode(self._response(usage, None, why), _NOTHING, "failed")
        await self._router.book(episode, policy=self._policy, error=error)

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _response(self, usage: Usage, completion: Completion | None, error: str | None) -> Response:
        return Response(
            call_id=CALL_ID,
            model=self._model.name,
            turn=1,
            completion=completion,
            answer=None,
            usage=usage,
            cost_usd=self._model.price.cost(usage),
            latency_s=self._elapsed(),
            error=error,
        )

    def _episode(self, response: Response, completion: Completion, reason: StopReason) -> Episode:
        return Episode(
            id=self.id,
            request=self._request,
            preference=self._preference,
            steps=(Step(self._policy.decision, (response,)),),
            completion=completion,
            answer_from=response if response.ok else None,
            stop_reason=reason,
            cost_usd=response.cost_usd,
            usage=response.usage,
            latency_s=response.latency_s,
        )
