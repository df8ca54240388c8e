"""The routing model's endpoint as one recorded episode asks it: journal first, then the endpoint, within a budget."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal

from ...catalog.model import Model
from ...episodes.cost import estimate_prompt_tokens
from ...errors import (
    BudgetExceededError,
    ConfigurationError,
    ProviderAuthError,
    ProviderError,
    ProviderRequestError,
    ProviderResponseError,
    ProviderTimeoutError,
)
from ...messages import Chunk, Completion, Request, Usage
from ...providers.provider import Provider
from ...tasks.collection import worst_cost
from ...tasks.purse import Purse
from .replies import ReplyJournal, RouterReply

FAILURES_IN_A_ROW = 20
"""After so many without one reply between them the endpoint is held to be down, and the run ends."""


@dataclass(eq=False)
class Endpoint:
    """What all episodes of a run share. purse: None = nothing is paid."""

    provider: Provider
    journal: ReplyJournal
    purse: Purse | None = None
    failed_in_a_row: int = 0


class EpisodeRouter:
    """A Provider for the decisions of one query at one cost weight; `replies` are those it gave."""

    def __init__(self, endpoint: Endpoint, query_id: str, point: float) -> None:
        self.replies: list[RouterReply] = []
        self._endpoint = endpoint
        self._query_id = query_id
        self._point = point

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        """Raises BudgetExceededError where the budget does not allow the decision at its worst, ConfigurationError where
        the endpoint refuses the key or is down, and else ProviderError."""
        turn = len(self.replies) + 1
        known = self._endpoint.journal.reply((self._query_id, self._point, turn))
        if known is not None:
            self.replies.append(known)
            return known.completion
        purse, most = self._endpoint.purse, worst_cost(model, request)
        if purse is None:
            return await self._ask(model, request, timeout_s, turn, most)
        if not await purse.set_aside(most):
            raise BudgetExceededError(
                f"the router's budget of {purse.limit} USD is used up ({purse.spent:f} USD spent): raise "
                f"--router-budget-usd and run again, {self._endpoint.journal.path} keeps what was paid for"
            )
        spent = most
        try:
            completion = await self._ask(model, request, timeout_s, turn, most)
            spent = self.replies[-1].cost_usd
        except ProviderError:
            spent = self.replies[-1].cost_usd
            raise
        finally:
            await purse.settle(most, spent)
        return completion

    def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        raise ProviderRequestError("decisions are not streamed", model=model.name)

    async def aclose(self) -> None: ...

    async def _ask(
        self, model: Model, request: Request, timeout_s: float | None, turn: int, most: Decimal
    ) -> Completion:
        endpoint, started = self._endpoint, time.monotonic()
        try:
            completion = await endpoint.provider.complete(model, request, timeout_s=timeout_s)
        except ProviderError as error:
            self._note_failure(error, request, turn, most, time.monotonic() - started)
            raise
        endpoint.failed_in_a_row = 0
        usage = completion.usage
        for beside in request.side_calls or ():
            usage += beside.usage
        reply = RouterReply(
            self._query_id,
            self._point,
            turn,
            usage,
            model.price.cost(usage),
            time.monotonic() - started,
            completion.message,
            completion.finish_reason,
        )
        self._keep(reply)
        return completion

    def _note_failure(
        self, error: ProviderError, request: Request, turn: int, most: Decimal, seconds: float
    ) -> None:
        charged = isinstance(error, (ProviderTimeoutError, ProviderResponseError))
        usage = (
            error.usage
            if isinstance(error.usage, Usage)
            else Usage(estimate_prompt_tokens(request) if charged else 0, estimated=True)
        )
        self._keep(
            RouterReply(
                self._query_id,
                self._point,
                turn,
                usage,
                most if charged else Decimal(0),
                seconds,
                error=error.message,
            )
        )
        endpoint = self._endpoint
        endpoint.failed_in_a_row += 1
        if isinstance(error, ProviderAuthError):
            raise ConfigurationError(
                f"the router's endpoint refuses the key: {error.message}; set the variable that --router-key-env names",
                param="router_llm.key_env",
            ) from error
        if endpoint.failed_in_a_row >= FAILURES_IN_A_ROW:
            raise ConfigurationError(
                f"the router's endpoint failed {FAILURES_IN_A_ROW} times in a row, last: {error.message}; see to it and "
                f"run again, {endpoint.journal.path} keeps its replies",
                param="router_llm.url",
            ) from error

    def _keep(self, reply: RouterReply) -> None:
        self._endpoint.journal.append(reply)
        self.replies.append(reply)
