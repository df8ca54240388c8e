"""A language model that routes, played on recorded outcomes by the code that serves. No score is seen here."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from ...episodes.environment import Environment
from ...episodes.episode import DEFAULT_MAX_TURNS, Episode, Preference
from ...errors import ConfigurationError, EpisodeError, ProviderError, XRouterError
from ...messages import Request
from ...policies.tool_calling import ToolCallingPolicy
from ...rollout import rollout
from ...settings_tables.router_llm import RouterLLMSettings
from ...tasks.outcomes import Outcomes
from ...tasks.purse import Purse
from ...tasks.recorded_world import RecordedWorld
from .asking import Endpoint, EpisodeRouter
from .replies import ReplyJournal, RouterReply

JOURNAL = "router-replies.jsonl"
NOT_ASKED_WITH = ("url", "key_env", "price", "max_concurrency", "timeout_s")
"""Settings of [router_llm] that change no reply."""


@dataclass(frozen=True, slots=True)
class RouterRun:
    """How the routing model is asked.

    budget_usd: for all its tokens, earlier runs of the same journal included; None = it costs nothing to run.
    concurrency: episodes under way at once.
    """

    cost_weights: tuple[float, ...] = (0.1,)
    max_turns: int = DEFAULT_MAX_TURNS
    concurrency: int = 8
    budget_usd: Decimal | None = None

    def __post_init__(self) -> None:
        if not self.cost_weights or not all(weight >= 0 for weight in self.cost_weights):
            raise ConfigurationError(
                f"cost weights must be zero or more, got {self.cost_weights}", param="cost_weights"
            )
        if self.concurrency < 1:
            raise ConfigurationError(
                f"concurrency must be at least 1, got {self.concurrency}", param="concurrency"
            )
        if self.budget_usd is not None and not self.budget_usd > 0:
            raise ConfigurationError(
                f"the budget must be above 0 USD, got {self.budget_usd}", param="budget_usd"
            )


@dataclass(frozen=True, slots=True)
class PlayedEpisode:
    """calls: (model, turn) in the order made. answer_from: the model whose answer was handed over.

    text: the answer in the router's own words. None in both: there was no answer.
    decisions, faulty: replies asked for, and those with something wrong.
    stood_in: a decision was not the router's, since it could not be asked or made no sense to the end.
    problems: what was wrong with its replies, by kind.
    """

    query_id: str
    point: float
    calls: tuple[tuple[str, int], ...]
    answer_from: str | None
    text: str | None
    policy_cost_usd: Decimal
    decisions: int
    faulty: int
    stood_in: bool
    problems: Mapping[str, int]
    replies: tuple[RouterReply, ...] = field(default=(), repr=False)


def needs_budget(policy: ToolCallingPolicy) -> bool:
    """Whether its tokens have a price."""
    rates = policy.model.price.rates
    return bool(rates.input or rates.output)


def asked_with(policy: ToolCallingPolicy, test: Outcomes, max_turns: int) -> dict[str, Any]:
    """All that the router's replies depend on, beside query and cost weight."""
    kept = {name: getattr(policy.options, name) for name in RouterLLMSettings.__dataclass_fields__}
    options = {name: value for name, value in kept.items() if name not in NOT_ASKED_WITH and name != "model"}
    return {
        "router": policy.model.name,
        "outcomes": test.name,
        "pool": list(test.model_names),
        "max_turns": max_turns,
        **options,
    }


def play_router(
    policy: ToolCallingPolicy,
    test: Outcomes,
    run: RouterRun,
    folder: Path,
    on_episode: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[PlayedEpisode, ...]:
    """Every query at every cost weight, query by query; replies are kept in the folder, and those found there are not
    asked for again.

    Raises BudgetExceededError where the budget is used up, ConfigurationError where the endpoint is down or the journal
    found is of other questions.
    """
    with ReplyJournal(folder / JOURNAL, asked_with(policy, test, run.max_turns)) as journal:
        purse = None if run.budget_usd is None else Purse(run.budget_usd, journal.spent_usd)
        endpoint = Endpoint(policy.provider, journal, purse)
        return asyncio.run(_play(policy, test, run, endpoint, on_episode))


async def _play(
    policy: ToolCallingPolicy,
    test: Outcomes,
    run: RouterRun,
    endpoint: Endpoint,
    on_episode: Callable[[int, int], None],
) -> tuple[PlayedEpisode, ...]:
    wanted = [(q, weight) for q in range(len(test)) for weight in run.cost_weights]
    played: dict[tuple[int, float], PlayedEpisode] = {}
    faults: list[XRouterError] = []

    async def work(todo: Iterator[tuple[int, float]]) -> None:
        for q, weight in todo:
            if faults:
                return
            try:
                played[q, weight] = await _episode(policy, test.rows([q]), weight, run.max_turns, endpoint)
            except XRouterError as fault:
                faults.append(fault)
                return
            on_episode(len(played), len(wanted))

    todo = iter(wanted)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(run.concurrency):
                group.create_task(work(todo))
    finally:
        await policy.aclose()
    if faults:
        raise faults[0]
    return tuple(played[key] for key in wanted)


async def _episode(
    policy: ToolCallingPolicy, one: Outcomes, weight: float, max_turns: int, endpoint: Endpoint
) -> PlayedEpisode:
    """`one`: outcomes of a single query, so that a prompt that is there twice is answered by its own row."""
    asking = EpisodeRouter(endpoint, one.query_ids[0], weight)
    deciding = ToolCallingPolicy(asking, policy.model, policy.options)
    present = one.recording.present_QM[0]
    environment = Environment(
        RecordedWorld(one).pool(one.model_names),
        Request.from_text(one.recording.prompts[0]),
        Preference(cost_weight=weight, max_turns=max_turns),
        allowed=frozenset(name for name, there in zip(one.model_names, present, strict=True) if there),
    )
    try:
        episode = await rollout(deciding, environment)
    except EpisodeError as error:
        if not isinstance(error.episode, Episode):
            raise
        episode = error.episode
    except ProviderError:
        episode = environment.abandoned()
    return _played(one.query_ids[0], weight, episode, tuple(asking.replies))


def _played(
    query_id: str, weight: float, episode: Episode, replies: tuple[RouterReply, ...]
) -> PlayedEpisode:
    decisions = [step.decision for step in episode.steps]
    problems: Counter[str] = Counter()
    cost = Decimal(0)
    for decision in decisions:
        problems.update(decision.problems)
        if decision.policy_model is not None:
            cost += decision.policy_model.price.cost(decision.usage)
    own_words = episode.stop_reason in ("direct", "synthesised")
    return PlayedEpisode(
        query_id=query_id,
        point=weight,
        calls=tuple((response.model, response.turn) for response in episode.responses),
        answer_from=None if episode.answer_from is None else episode.answer_from.model,
        text=episode.text if own_words else None,
        policy_cost_usd=cost,
        decisions=len(decisions),
        faulty=sum(bool(decision.problems) for decision in decisions),
        stood_in=any(decision.fallback is not None for decision in decisions),
        problems=dict(problems),
        replies=replies,
    )
