"""One sample played by a language model that somebody else samples from: a trainer, or a test.

The policy, the environment and the loop between them are those that serve. Only the model's replies come from outside.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from ...catalog.model import Model
from ...episodes.environment import Environment
from ...episodes.episode import Episode, Observation, StopReason
from ...errors import EpisodeError, ProviderRequestError
from ...messages import Chunk, Completion, Request, Usage
from ...policies.tool_calling import ToolCallingPolicy
from ...rewards.outcome import Outcome
from ...rollout import rollout
from ...settings_tables.router_llm import RouterLLMSettings
from ...tasks.world import World
from ..dataset.rows import Sample
from .reward import EpisodeReward

FINAL_WORDS: frozenset[StopReason] = frozenset({"direct", "synthesised"})


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """What an episode brought.

    reward: what training maximises; `outcome` has quality, cost and time, each on its own.
    ended: why it ended; "failed" where there was no answer at all.
    answered_by: the model whose response was handed over, "router" for its own words, None where there was no answer.
    called: models in the order they were called. turns: replies taken, invalid ones included.
    problems: what was wrong with replies, by kind. router_usage, router_cost_usd: its own tokens, all turns.
    """

    index: int
    reward: float
    outcome: Outcome
    ended: StopReason
    answered_by: str | None
    called: tuple[str, ...]
    turns: int
    problems: Mapping[str, int]
    router_usage: Usage
    router_cost_usd: Decimal
    trivial: bool = False
    episode: Episode | None = None


class RouterEpisode:
    """`start` gives the first request to the router, `reply` takes its answer and gives the next request.

    Each request only adds messages to the one before and the reply to it. A reply that is no valid decision uses up a
    turn; where no model stands in for a router that fails, a last reply that is none leaves the best response so far,
    or no answer at all.
    """

    def __init__(
        self,
        sample: Sample,
        world: World,
        router: Model,
        options: RouterLLMSettings,
        reward: EpisodeReward,
    ) -> None:
        self.sample = sample
        self._world = world
        self._reward = reward
        self._asking = _AskingOutside()
        # Serving has a model answer where the router makes no sense. Training must not pay for that.
        self._policy = ToolCallingPolicy(self._asking, router, replace(options, on_failure="error"))
        self._environment = Environment(world.pool(sample.pool), sample.task.request, sample.preference)
        self._running: asyncio.Task[Episode] | None = None
        self._result: EpisodeResult | None = None

    @property
    def done(self) -> bool:
        return self._result is not None

    @property
    def observation(self) -> Observation:
        """What the router may know now."""
        return self._environment.observation

    @property
    def result(self) -> EpisodeResult:
        """Of the finished episode. Raises RuntimeError before."""
        if self._result is None:
            raise RuntimeError("the episode is not over: reply until there is no further request")
        return self._result

    async def start(self) -> Request | None:
        """What the router is asked first; None where no decision could be asked for."""
        self._running = asyncio.create_task(rollout(self._policy, self._environment))
        return await self._next()

    async def reply(self, completion: Completion) -> Request | None:
        """Takes the router's reply to the last request; None: the episode is over."""
        self._asking.answer(completion)
        return await self._next()

    async def aclose(self) -> None:
        """Ends an episode that nobody will finish."""
        if self._running is not None and not self._running.done():
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _next(self) -> Request | None:
        assert self._running is not None
        asked = asyncio.create_task(self._asking.requests.get())
        try:
            await asyncio.wait([self._running, asked], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not asked.done():
                asked.cancel()
        if asked.done() and not asked.cancelled():
            return asked.result()
        self._result = await self._ended(self._running)
        return None

    async def _ended(self, running: asyncio.Task[Episode]) -> EpisodeResult:
        try:
            episode, quality = running.result(), None
        except EpisodeError as error:
            if not isinstance(error.episode, Episode):
                raise
            episode, quality = error.episode, 0.0
        task, sample = self.sample.task, self.sample
        if quality is None:
            quality = await self._world.quality(task, episode)
        outcome = Outcome.of(episode, quality)
        decisions = [step.decision for step in episode.steps]
        models = [decision.policy_model for decision in decisions]
        own_usage = sum((decision.usage for decision in decisions), Usage())
        own_cost = sum(
            (
                m.price.cost(decision.usage)
                for m, decision in zip(models, decisions, strict=True)
                if m is not None
            ),
            Decimal(0),
        )
        problems: Counter[str] = Counter()
        for decision in decisions:
            problems.update(decision.problems)
        by_router = "router" if episode.stop_reason in FINAL_WORDS else None
        return EpisodeResult(
            index=sample.index,
            reward=self._reward.of(outcome, sample, self._environment.observation.pool),
            outcome=outcome,
            ended=episode.stop_reason,
            answered_by=by_router if episode.answer_from is None else episode.answer_from.model,
            called=episode.calls,
            turns=len(episode.steps),
            problems=dict(problems),
            router_usage=own_usage,
            router_cost_usd=own_cost,
            trivial=sample.trivial,
            episode=episode,
        )


class _AskingOutside:
    """In place of the router's endpoint: requests wait here until somebody replies."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[Request] = asyncio.Queue(1)
        self._reply: asyncio.Future[Completion] | None = None

    def answer(self, completion: Completion) -> None:
        if self._reply is None or self._reply.done():
            raise RuntimeError("nothing was asked: there is no request to reply to")
        self._reply.set_result(completion)

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        self._reply = asyncio.get_running_loop().create_future()
        self.requests.put_nowait(request)
        return await self._reply

    def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        raise ProviderRequestError("decisions are not streamed", model=model.name)

    async def aclose(self) -> None: ...
