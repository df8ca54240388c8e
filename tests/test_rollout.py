"""Where a policy meets an environment."""

from __future__ import annotations

import asyncio

import pytest
from conftest import make_model
from episode_kit import ScriptedPolicy, ask, completion, environment, scripted, usd

from xrouter.episodes.episode import CallModels, Decision, Observation, Select
from xrouter.errors import DeadlineExceededError, InvalidActionError, NoAnswerError, ProviderUnavailableError
from xrouter.messages import Usage
from xrouter.rollout import rollout


async def test_a_policy_decides_until_the_episode_is_over() -> None:
    pool, _ = scripted({"a": completion(), "b": completion()})
    policy = ScriptedPolicy([ask("a"), ask("b"), Select("c1")])
    episode = await rollout(policy, environment(pool))
    assert (episode.calls, episode.stop_reason) == (("a", "b"), "selected")
    assert [(o.turns_left, len(o.responses)) for o in policy.seen] == [(3, 0), (2, 1), (1, 2)]
    assert len(episode.steps) == 3


async def test_a_policy_reads_why_its_act_was_refused() -> None:
    pool, _ = scripted({"a": completion()})
    bad = InvalidActionError(
        "arguments are not JSON",
        decision=Decision(CallModels(()), usage=Usage(10, 0), policy_model=make_model("judge")),
    )
    policy = ScriptedPolicy([bad, ask("a"), Select("c1")])
    episode = await rollout(policy, environment(pool))
    assert policy.seen[1].errors == ("arguments are not JSON",)
    assert episode.cost_usd == usd("0.00021")


async def test_no_answer_raises_with_what_was_spent() -> None:
    pool, _ = scripted({"a": ProviderUnavailableError("down")})
    with pytest.raises(NoAnswerError) as raised:
        await rollout(ScriptedPolicy([ask("a")] * 3), environment(pool))
    assert len(raised.value.episode.responses) == 3


class SlowPolicy:
    name = "slow"
    version = "1"

    async def act(self, observation: Observation) -> Decision:
        if not observation.responses:
            return ask("a")
        await asyncio.sleep(30)
        return Decision(Select("c1"))


async def test_the_deadline_holds_while_the_policy_thinks() -> None:
    pool, _ = scripted({"a": completion()})
    episode = await rollout(SlowPolicy(), environment(pool, deadline_s=0.1))
    assert (episode.stop_reason, episode.text) == ("time_limit", "The answer is 7.")
    pool, _ = scripted({"a": ProviderUnavailableError("down")})
    with pytest.raises(DeadlineExceededError):
        await rollout(SlowPolicy(), environment(pool, deadline_s=0.1))


async def test_a_timeout_of_the_policys_own_is_not_the_deadline() -> None:
    pool, _ = scripted({"a": completion()})
    with pytest.raises(TimeoutError):
        await rollout(ScriptedPolicy([TimeoutError()]), environment(pool, deadline_s=10))


async def test_a_cancelled_rollout_leaves_its_costs_in_the_environment() -> None:
    pool, provider = scripted({"a": completion(), "slow": lambda *_: asyncio.sleep(30)})
    env = environment(pool)
    task = asyncio.create_task(rollout(ScriptedPolicy([ask("a"), ask("slow")]), env))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert provider.cancelled == 1
    assert env.abandoned().calls == ("a", "slow")
