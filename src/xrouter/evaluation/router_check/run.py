"""Asking an endpoint every case through the policy that serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from ...episodes.cost import estimate_prompt_tokens
from ...errors import ConfigurationError, InvalidActionError, ProviderError
from ...policies.tool_calling import ToolCallingPolicy, offered_models
from ...settings_tables.router_llm import CallArgument
from ...toml_reader import nearest
from .cases import cases
from .scoring import Case, CaseResult, Outcome, result


def chosen_cases(only: Sequence[str] = (), arguments: Collection[CallArgument] = ()) -> tuple[Case, ...]:
    """All of them, or those named; `arguments` as the router is offered. Raises ConfigurationError for an unknown name."""
    every = {case.name: case for case in cases(arguments)}
    for name in only:
        if name not in every:
            raise ConfigurationError(
                f"there is no case {name!r}{nearest(name, every)} (known: {', '.join(every)})", param="only"
            )
    return tuple(every[name] for name in only) if only else tuple(every.values())


async def check(
    policy: ToolCallingPolicy,
    chosen: Sequence[Case],
    *,
    repeats: int = 1,
    concurrency: int = 4,
    on_result: Callable[[CaseResult], None] | None = None,
) -> list[CaseResult]:
    """Ask each case `repeats` times, `concurrency` at once.

    Raises ProviderError where the endpoint answered none of them.
    """
    room = asyncio.Semaphore(concurrency)

    async def one(case: Case) -> Outcome:
        async with room:
            return await ask(policy, case)

    async def all_of(case: Case) -> CaseResult:
        found = result(case, await asyncio.gather(*(one(case) for _ in range(repeats))))
        if on_result is not None:
            on_result(found)
        return found

    results = await asyncio.gather(*(all_of(case) for case in chosen))
    outcomes = [outcome for each in results for outcome in each.outcomes]
    if outcomes and all(outcome.unreachable for outcome in outcomes):
        raise ProviderError(
            f"the endpoint answered none of {len(outcomes)} requests: {outcomes[0].error}",
            model=policy.model.name,
        )
    return results


async def ask(policy: ToolCallingPolicy, case: Case) -> Outcome:
    """One decision. The policy's own stand-ins are off: a failure is to be seen."""
    rules = "\n".join(filter(None, (policy.options.instructions, case.rules))) or None
    options = replace(policy.options, on_failure="error", instructions=rules)
    asking = ToolCallingPolicy(policy.provider, policy.model, options)
    sent = estimate_prompt_tokens(asking.request(case.observation, offered_models(case.observation)))
    started = time.monotonic()
    try:
        decision = await asking.act(case.observation)
    except InvalidActionError as error:
        spent = error.decision
        return Outcome(
            None,
            f"{error.kind}: {error.message}",
            problems=dict(spent.problems),
            usage=spent.usage,
            seconds=spent.policy_s,
            sent_tokens=sent,
        )
    except ProviderError as error:
        return Outcome(None, error.message, unreachable=True, seconds=time.monotonic() - started)
    return Outcome(
        decision.action,
        problems=dict(decision.problems),
        usage=decision.usage,
        seconds=decision.policy_s,
        sent_tokens=sent,
    )
