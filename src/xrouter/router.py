"""The library's front door: a request in, an answer out, everything paid for booked.

Router.answer -> Preference -> rollout(policy, environment) -> ledger -> Answer
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import os
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from .catalog.catalog import Catalog
from .catalog.model import Model
from .episodes.booking import entries
from .episodes.environment import Environment
from .episodes.episode import Episode, Preference, Response
from .errors import RequestError
from .ledger.ledger import EpisodeEntry, Ledger
from .messages import Message, Request, Usage
from .policies.policy import Policy
from .providers.pool import Pool
from .rollout import rollout
from .settings import Settings, load_settings

T = TypeVar("T")

MAX_TURNS = 16
"""The most turns a caller may ask for."""

_GATEWAY_FIELDS = ("model", "messages", "stream", "stream_options")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered request. Money is exact USD, latency seconds.

    message: the assistant message in OpenAI's shape; `text` is its text.
    model: the pool model whose answer this is, or the policy's name where it answered itself.
    calls: every call in order, failed ones included; route: their models, turn by turn.
    reference_cost_usd: what `reference_model` alone would have cost, estimated unless it was called.
    savings: share of the reference cost that was saved; below zero if more was spent; None without a reference cost.
    confidence: the policy's probability that the answer is right, None where it has none.
    outside_training: the request is unlike all that the policy was trained on: it chose the route that is good on
        average there, and its confidence is a guess.
    usage: tokens of the whole episode.
    degraded: why the answer is not what the policy wanted; None if it is.
    simulated: True where a model that only pretends was asked.
    """

    text: str
    message: Message
    model: str
    calls: tuple[Response, ...]
    route: tuple[tuple[str, ...], ...]
    stop_reason: str
    cost_usd: Decimal
    reference_model: str
    reference_cost_usd: Decimal
    savings: float | None
    confidence: float | None
    usage: Usage
    latency_s: float
    policy: str
    policy_version: str
    degraded: str | None
    simulated: bool
    episode: Episode
    outside_training: bool = False

    @classmethod
    def of(cls, episode: Episode, entry: EpisodeEntry) -> Answer:
        """The answer of an episode as it was booked."""
        reference = entry.reference_cost_usd
        turns = (tuple(response.model for response in step.responses) for step in episode.steps)
        return cls(
            text=episode.text,
            message=episode.completion.message,
            model=entry.answer_model or entry.policy,
            calls=episode.responses,
            route=tuple(turn for turn in turns if turn),
            stop_reason=episode.stop_reason,
            cost_usd=episode.cost_usd,
            reference_model=entry.reference_model,
            reference_cost_usd=reference,
            savings=float(1 - episode.cost_usd / reference) if reference else None,
            confidence=episode.confidence,
            usage=episode.usage,
            latency_s=episode.latency_s,
            policy=entry.policy,
            policy_version=entry.policy_version,
            degraded=episode.degraded,
            simulated=entry.simulated,
            episode=episode,
            outside_training=episode.outside_training,
        )


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
        self._background = _Background()
        self._answering: set[asyncio.Task[Any]] = set()
        self._bookings: set[asyncio.Task[None]] = set()

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

    async def answer_request(self, request: Request, preference: Preference) -> Answer:
        """`route`, with the answer as it was booked."""
        environment = Environment(self.pool, request, preference)
        try:
            episode = await rollout(self.policy, environment)
        except BaseException as error:
            await self.book(environment.abandoned(), error=error)
            raise
        return Answer.of(episode, await self.book(episode))

    async def book(
        self, episode: Episode, *, policy: Policy | None = None, error: BaseException | None = None
    ) -> EpisodeEntry:
        """Commit an episode's rows. Cancelling the wait does not stop the writing. Raises LedgerError."""
        entry, calls = entries(episode, self.pool, policy or self.policy, self.reference, error)
        task = asyncio.create_task(self.ledger.book(entry, calls))
        self._bookings.add(task)
        task.add_done_callback(self._bookings.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            raise
        return entry

    def preference(
        self,
        *,
        preset: str | None = None,
        cost_weight: float | None = None,
        target_quality: float | None = None,
        max_cost_usd: Decimal | float | str | None = None,
        deadline_s: float | None = None,
        max_turns: int | None = None,
        simple: bool = False,
    ) -> Preference:
        """What the caller wants, with the settings' defaults and limits.

        Raises RequestError whose `param` is the argument at fault.
        """
        presets = self.settings.presets
        if preset is not None and preset not in presets:
            raise RequestError(
                f"preset {preset!r} is unknown; there are {', '.join(presets)}", param="preset"
            )
        if preset is not None and cost_weight is not None:
            raise RequestError("cost_weight and a preset exclude each other: give one", param="cost_weight")
        if target_quality is not None:
            if cost_weight is not None or preset is not None:
                other = "cost_weight" if preset is None else "a preset"
                raise RequestError(
                    f"target_quality and {other} exclude each other: give one", param="target_quality"
                )
            if not _is_number(target_quality) or not 0 < target_quality < 1:
                raise _wrong("target_quality", "a probability above 0 and below 1", target_quality)
        if cost_weight is None:
            cost_weight = presets[preset or self.settings.default_preset]
        elif not _is_number(cost_weight) or cost_weight < 0:
            raise _wrong("cost_weight", "a number from 0 (quality alone) up", cost_weight)
        longest = self.settings.request_timeout_s
        if deadline_s is not None and (not _is_number(deadline_s) or deadline_s <= 0):
            raise _wrong("deadline_s", "a positive number of seconds", deadline_s)
        if max_turns is None:
            max_turns = self.settings.max_turns
        elif type(max_turns) is not int or not 1 <= max_turns <= MAX_TURNS:
            raise _wrong("max_turns", f"an integer from 1 to {MAX_TURNS}", max_turns)
        if not isinstance(simple, bool):
            raise _wrong("simple", "true or false", simple)
        return Preference(
            cost_weight=float(cost_weight),
            target_quality=None if target_quality is None else float(target_quality),
            max_cost_usd=None if max_cost_usd is None else _dollars(max_cost_usd),
            deadline_s=longest if deadline_s is None else min(deadline_s, longest),
            max_turns=max_turns,
            simple=simple,
        )

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


class _Background:
    """An event loop on a thread of its own, started when first used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="xrouter", daemon=True)
                self._thread.start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


def _build_pool(settings: Settings) -> Pool:
    from .providers.build import build_pool

    return build_pool(settings, Catalog.load(settings), os.environ)


def _load_policy(policy: Policy | str | Path | None, pool: Pool, settings: Settings) -> Policy:
    if policy is None:
        policy = settings.policy
    if policy is not None and not isinstance(policy, (str, Path)):
        return policy
    from .policies.checkpoint import load_policy

    return load_policy(policy, pool.models)


def _open_ledger(settings: Settings) -> Ledger:
    from .ledger.sqlite import SqliteLedger

    return SqliteLedger(settings.ledger)


def _reference(pool: Pool, settings: Settings) -> Model:
    return pool.reference if settings.reference_model is None else pool[settings.reference_model]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _dollars(value: Decimal | float | str) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or amount < 0:
        raise _wrong("max_cost_usd", "an amount of US dollars such as 0.002", value)
    return amount


def _wrong(name: str, expected: str, value: object) -> RequestError:
    shown = repr(value) if isinstance(value, (int, float)) else type(value).__name__
    return RequestError(f"{name} must be {expected}, got {shown}", param=name)
