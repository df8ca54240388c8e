"""Asks every model of a pool every task and writes down what came back, within a budget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from ..catalog.model import Model
from ..episodes.cost import bound_prompt_tokens, choices, output_limit
from ..errors import (
    ConfigurationError,
    ProviderAuthError,
    ProviderError,
    ProviderResponseError,
    ProviderTimeoutError,
)
from ..messages import Completion, Request, Usage
from ..providers.pool import Pool
from .journal import Journal, Row
from .purse import Purse
from .task import Task


@dataclass(frozen=True, slots=True)
class Limits:
    """max_cost_usd: for the whole collection, earlier runs of the same journal included. concurrency: calls
    under way at once. max_output_tokens: of an answer, where the task sets none. timeout_s: for one call."""

    max_cost_usd: Decimal
    concurrency: int = 8
    max_output_tokens: int = 2048
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        for name in ("max_cost_usd", "concurrency", "max_output_tokens", "timeout_s"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} must be above 0, got {getattr(self, name)}", param=name)


@dataclass(frozen=True, slots=True)
class Collected:
    """How a run ended. asked, failed: calls of this run. refused: models whose key was refused."""

    asked: int
    failed: int
    stopped: Literal["done", "budget"]
    refused: tuple[str, ...]


async def collect(
    tasks: Sequence[Task],
    pool: Pool,
    journal: Journal,
    limits: Limits,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Collected:
    """Asks what the journal lacks, query by query, so that a budget that runs out leaves whole queries.

    Before a call its worst case is set aside (see `worst_cost`);
    a call that does not fit any more ends the run, so the budget holds. A call that failed in a way that may
    have been charged counts at its worst case; attempts that a provider repeats by itself count once. A model
    whose key is refused is not asked again. Only ProviderError is caught: it becomes a row.
    """
    run = _Run(pool, journal, limits, Purse(limits.max_cost_usd, journal.spent_usd), on_row)
    answered = journal.answered
    todo = iter([(task, model) for task in tasks for model in pool if (task.id, model.name) not in answered])
    async with asyncio.TaskGroup() as group:
        for _ in range(limits.concurrency):
            group.create_task(run.work(todo))
    return Collected(run.asked, run.failed, "budget" if run.purse.empty else "done", tuple(run.refused))


def worst_cost(model: Model, request: Request) -> Decimal:
    """USD that one call does not exceed: the prompt at its bound, the longest answer allowed, all of it at the
    dearer of the output and reasoning rates."""
    prompt, output = bound_prompt_tokens(request), output_limit(model, request) * choices(request)
    return max(
        model.price.cost(Usage(prompt, output)),
        model.price.cost(Usage(prompt, output, reasoning_tokens=output)),
    )


def bounded(model: Model, request: Request, max_output_tokens: int) -> Request:
    """The request with an output limit, unless it has one of its own."""
    if request.max_output_tokens is not None:
        return request
    limit = min(max_output_tokens, model.max_output_tokens)
    # OpenAI's reasoning models refuse the older name, most other endpoints do not know the newer one.
    name = "max_completion_tokens" if model.provider == "openai" else "max_tokens"
    return request.with_params(**{name: limit})


@dataclass
class _Run:
    pool: Pool
    journal: Journal
    limits: Limits
    purse: Purse
    on_row: Callable[[Row], None]
    asked: int = 0
    failed: int = 0
    refused: list[str] = field(default_factory=list)

    async def work(self, todo: Iterator[tuple[Task, Model]]) -> None:
        for task, model in todo:
            if model.name in self.refused:
                continue
            request = bounded(model, task.request, self.limits.max_output_tokens)
            most = worst_cost(model, request)
            if not await self.purse.set_aside(most):
                return
            spent = most
            try:
                row = await self._ask(task, model, request, most)
                spent = row.cost_usd
                self.journal.append(row)
            finally:
                await self.purse.settle(most, spent)
            self.asked += 1
            self.on_row(row)

    async def _ask(self, task: Task, model: Model, request: Request, most: Decimal) -> Row:
        provider = self.pool.provider_of(model)
        try:
            completion = await provider.complete(model, request, timeout_s=self.limits.timeout_s)
        except ProviderError as error:
            self.failed += 1
            if isinstance(error, ProviderAuthError) and model.name not in self.refused:
                self.refused.append(model.name)
            charged = isinstance(error, (ProviderTimeoutError, ProviderResponseError))
            return Row(task.id, model.name, most if charged else Decimal(0), error=error.message)
        return _row(task, model, completion)


def _row(task: Task, model: Model, completion: Completion) -> Row:
    return Row(
        query_id=task.id,
        model=model.name,
        cost_usd=model.price.cost(completion.usage),
        prompt_tokens=completion.usage.prompt_tokens,
        completion_tokens=completion.usage.completion_tokens,
        latency_s=completion.latency_s,
        estimated=completion.usage.estimated,
        text=completion.text.encode("utf-8", "replace").decode(),  # a lone surrogate fits no file
        tool_calls=tuple(completion.tool_calls),
        answer=completion.answer,
    )
