"""The library's front door: a request in, an answer out, everything paid for booked.

Router.answer -> Preference -> rollout(policy, environment) -> ledger -> Answer
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .answer import Answer
from .background_loop import BackgroundLoop
from .catalog.catalog import Catalog
from .catalog.model import Model
from .episodes.booking import NOBODY, Attribution, entries
from .episodes.eligibility import EVERYTHING, Scope, eligible, nobody_eligible
from .episodes.environment import Environment
from .episodes.episode import Episode, Preference
from .episodes.planning import Plan, planned
from .episodes.streaming import Sink
from .errors import BooksClosedError, LedgerError, RequestError
from .ledger.ledger import CallEntry, EpisodeEntry, Ledger
from .messages import Message, Request
from .policies.policy import PaidPolicy, Policy
from .providers.health import health_of
from .providers.pool import Pool
from .rollout import OnDecided, rollout
from .settings import Settings, load_settings
from .wishes import preference

logger = logging.getLogger("xrouter.router")

BOOKS_RETRY_S = 1.0
"""Once rows could not be written, one request in so many seconds tries again; the others are refused."""

_GATEWAY_FIELDS = ("model", "messages", "stream", "stream_options")


class Router:
    """A policy in front of a pool, with a ledger.

    policy: a Policy, or what `load_policy` takes (a name, a checkpoint, a run folder); default: the settings' own,
        else the one that ships with the package.
    pool, ledger, settings: default to the user's `xrouter.toml` and environment.

    Used from plain code (`answer`) or async code (`answer_async`) everything runs on one event loop on a thread of
    the router's own, so both work anywhere, notebooks included. A server that has a loop uses `route` and
    `answer_request`, which run on the caller's loop; one router serves one of the two ways.
    Raises ConfigurationError or CheckpointError when something it needs cannot be had.
    """

    def __init__(
        self,
        policy: Policy | str | Path | None = None,
        *,
        pool: Pool | None = None,
        ledger: Ledger | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.settings = load_settings() if settings is None else settings
        self.pool = _build_pool(self.settings) if pool is None else pool
        self.reference = _reference(self.pool, self.settings)
        self.policy = _load_policy(policy, self.pool, self.settings)
        self.ledger = _open_ledger(self.settings) if ledger is None else ledger
        self._background = BackgroundLoop()
        self.on_decided: OnDecided | None = None
        """Told of each decision: the policy's name, seconds."""
        self.on_committed: Callable[[float], None] | None = None
        """Told the seconds from handing rows to the ledger until they are durable."""
        self._answering: set[asyncio.Task[Any]] = set()
        self._bookings: set[asyncio.Task[None]] = set()
        self._books_retry_at: float | None = None

    def answer(
        self,
        prompt_or_messages: str | Sequence[Message],
        *,
        cost_weight: float | None = None,
        preset: str | None = None,
        target_quality: float | None = None,
        max_cost_usd: Decimal | float | str | None = None,
        deadline_s: float | None = None,
        simple: bool = False,
        **params: Any,
    ) -> Answer:
        """Answer a question or a conversation; `params` (temperature, tools, ...) go to the models as they are.

        target_quality: instead of a lambda or preset; max_cost_usd: hard cap in USD; deadline_s: seconds; the rest as
        in `Preference`.
        Raises RequestError for bad input, EpisodeError when there is no answer at all, LedgerError.
        """
        future = self._background.submit(
            self._answer(
                prompt_or_messages,
                params,
                cost_weight=cost_weight,
                preset=preset,
                target_quality=target_quality,
                max_cost_usd=max_cost_usd,
                deadline_s=deadline_s,
                simple=simple,
            )
        )
        try:
            return future.result()
        finally:
            future.cancel()

    async def answer_async(
        self,
        prompt_or_messages: str | Sequence[Message],
        *,
        cost_weight: float | None = None,
        preset: str | None = None,
        target_quality: float | None = None,
        max_cost_usd: Decimal | float | str | None = None,
        deadline_s: float | None = None,
        simple: bool = False,
        **params: Any,
    ) -> Answer:
        """`answer` for async code. Cancelling it cancels the calls; what was spent is booked."""
        return await asyncio.wrap_future(
            self._background.submit(
                self._answer(
                    prompt_or_messages,
                    params,
                    cost_weight=cost_weight,
                    preset=preset,
                    target_quality=target_quality,
                    max_cost_usd=max_cost_usd,
                    deadline_s=deadline_s,
                    simple=simple,
                )
            )
        )

    async def route(self, request: Request, preference: Preference) -> Episode:
        """Run one episode on the caller's loop; returns once its rows are committed.

        An episode that fails or is cancelled is booked as well, with what it spent until then.
        """
        return (await self.answer_request(request, preference)).episode

    async def answer_request(
        self,
        request: Request,
        preference: Preference,
        *,
        policy: Policy | None = None,
        scope: Scope = EVERYTHING,
        attribution: Attribution = NOBODY,
        sink: Sink | None = None,
        warm_tokens: Mapping[str, int] | None = None,
        episode_id: str | None = None,
    ) -> Answer:
        """`route`, with the answer as it was booked.

        policy: decides in place of the router's own. scope: the models that may be asked. sink: takes an answer that
        is handed over while the model writes it.
        Raises RequestError where no model may or can take the request, BooksClosedError where its rows could
        probably not be written: nobody is asked then.
        """
        self.check_books()
        policy = policy or self.policy
        environment = self.environment(
            request, preference, scope, sink=sink, warm_tokens=warm_tokens, episode_id=episode_id
        )
        try:
            episode = await rollout(policy, environment, self.on_decided)
        except BaseException as error:
            abandoned = environment.abandoned()
            await self.book(abandoned, policy=policy, error=error, attribution=attribution)
            raise
        return Answer.of(episode, await self.book(episode, policy=policy, attribution=attribution))

    def environment(
        self,
        request: Request,
        preference: Preference,
        scope: Scope = EVERYTHING,
        *,
        sink: Sink | None = None,
        warm_tokens: Mapping[str, int] | None = None,
        episode_id: str | None = None,
    ) -> Environment:
        """The rules of one request over the models that can take it. Raises RequestError where there is none."""
        names, reasons = self._eligible(request, scope)
        return Environment(
            self.pool,
            request,
            preference,
            allowed=names if reasons else None,
            sink=sink,
            warm_tokens=warm_tokens,
            episode_id=episode_id,
        )

    def _eligible(self, request: Request, scope: Scope) -> tuple[frozenset[str], dict[str, str]]:
        """As `eligibility.eligible`, of models that are well. Raises RequestError where nobody is left."""
        names, reasons = eligible(self.pool.models, request, scope, self._unhealthy())
        if not names:
            raise nobody_eligible(reasons)
        return names, reasons

    def _unhealthy(self) -> dict[str, str]:
        """Models that would fail at once, and why."""
        return {
            model.name: f"it is {health.condition} for another {health.back_in_s:.0f} s"
            for model in self.pool.models
            if not (health := health_of(self.pool.provider_of(model), model)).ok
        }

    async def plan(
        self,
        request: Request,
        preference: Preference,
        *,
        policy: Policy | None = None,
        scope: Scope = EVERYTHING,
        warm_tokens: Mapping[str, int] | None = None,
    ) -> Plan:
        """What would be done first, without doing it: nothing is called and nothing booked.

        Raises RequestError where deciding itself costs money.
        """
        policy = policy or self.policy
        if isinstance(policy, PaidPolicy):
            raise RequestError(
                f"dry_run is not possible here: policy {policy.name!r} asks a language model to decide, which costs money",
                param="dry_run",
            )
        names, reasons = self._eligible(request, scope)
        environment = Environment(self.pool, request, preference, allowed=names, warm_tokens=warm_tokens)
        decision = await policy.act(environment.observation)
        return planned(decision, request, self.pool, reasons)

    async def book(
        self,
        episode: Episode,
        *,
        policy: Policy | None = None,
        error: BaseException | None = None,
        attribution: Attribution = NOBODY,
    ) -> EpisodeEntry:
        """Commit an episode's rows. Cancelling the wait does not stop the writing. Raises LedgerError."""
        entry, calls = entries(
            episode, self.pool, policy or self.policy, self.reference, error, attribution=attribution
        )
        await self.book_entry(entry, calls, attribution)
        return entry

    async def book_entry(
        self, entry: EpisodeEntry, calls: Sequence[CallEntry], attribution: Attribution = NOBODY
    ) -> None:
        """`book`, of rows that are made already."""
        task = asyncio.create_task(self._commit(entry, calls, attribution))
        self._bookings.add(task)
        task.add_done_callback(self._bookings.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            raise

    async def _commit(
        self, entry: EpisodeEntry, calls: Sequence[CallEntry], attribution: Attribution
    ) -> None:
        started = time.perf_counter()
        try:
            spent = await self.ledger.book(entry, calls, attribution.scopes)
        except LedgerError as error:
            self._books_retry_at = time.monotonic() + BOOKS_RETRY_S
            logger.error(
                "episode %s, %s USD, is not in the books: %s", entry.episode_id, entry.cost_usd, error
            )
            raise
        self._books_retry_at = None
        if self.on_committed is not None:
            self.on_committed(time.perf_counter() - started)
        if attribution.settled is not None:
            await attribution.settled(entry, calls, spent)

    def check_books(self) -> None:
        """Raises BooksClosedError where rows could not be written a moment ago; once in BOOKS_RETRY_S it lets pass."""
        if self._books_retry_at is None:
            return
        now = time.monotonic()
        if now < self._books_retry_at:
            raise BooksClosedError(
                "the books could not be written a moment ago, so no model is asked: try again"
            )
        self._books_retry_at = now + BOOKS_RETRY_S

    def preference(self, **wants: Any) -> Preference:
        """What the caller wants, with the settings' defaults and limits; see `wishes.preference`."""
        return preference(self.settings, **wants)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Mark the current task as answering: closing the router cancels it and waits for its rows."""
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            yield
        finally:
            self._answering.discard(task)

    async def aclose(self) -> None:
        """Close pool and ledger on the caller's loop. Answers under way are cancelled, their rows written first."""
        for task in self._answering:
            if not task.cancelling():
                task.cancel()
        while under_way := self._answering | self._bookings:
            await asyncio.wait(under_way)
        if isinstance(self.policy, PaidPolicy):
            await self.policy.aclose()
        await self.pool.aclose()
        await self.ledger.aclose()

    def close(self) -> None:
        """Close pool, ledger and the router's own loop."""
        self._background.submit(self.aclose()).result()
        self._background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    async def _answer(
        self, prompt_or_messages: str | Sequence[Message], params: dict[str, Any], **wants: Any
    ) -> Answer:
        for name in _GATEWAY_FIELDS:
            if name in params:
                raise RequestError(
                    f"{name} is not a parameter here: the policy picks the model and answers are whole",
                    param=name,
                )
        if isinstance(prompt_or_messages, str):
            request = Request(({"role": "user", "content": prompt_or_messages},), params)
        else:
            request = Request(Request.from_messages(prompt_or_messages).messages, params)
        with self.under_way():
            return await self.answer_request(request, self.preference(**wants))


def _build_pool(settings: Settings) -> Pool:
    from .providers.build import build_pool

    return build_pool(settings, Catalog.load(settings), os.environ)


def _load_policy(policy: Policy | str | Path | None, pool: Pool, settings: Settings) -> Policy:
    if policy is None:
        policy = settings.policy
    if policy is not None and not isinstance(policy, (str, Path)):
        return policy
    from .policies.checkpoint import load_policy

    return load_policy(policy, pool.models, settings)


def _open_ledger(settings: Settings) -> Ledger:
    from .ledger.open import open_ledger

    return open_ledger(settings)


def _reference(pool: Pool, settings: Settings) -> Model:
    return pool.reference if settings.reference_model is None else pool[settings.reference_model]
