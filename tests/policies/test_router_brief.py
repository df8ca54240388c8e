"""The router's prompt for a model that was trained on it: the same facts, in few tokens."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal

from conftest import make_model
from episode_kit import completion
from router_llm_kit import call, observed, pool_of, says, select, sent, tool_calling
from upstream import MockUpstream

from xrouter.catalog.price import Price, Rates
from xrouter.episodes.environment import Environment
from xrouter.episodes.episode import Preference
from xrouter.messages import Request
from xrouter.policies.router_instructions import brief_wishes, instructions
from xrouter.rollout import rollout


def test_costs_are_in_percent_of_the_dearest_call() -> None:
    observation = observed(preference=Preference(cost_weight=0.3))
    lines = brief_wishes(observation, observation.pool).splitlines()
    assert lines[0].startswith("cost: call_small ")
    assert lines[0].endswith(", call_big 100")
    assert lines[1:] == ["lambda: 0.3"]


def test_a_target_a_cap_and_a_deadline_are_told() -> None:
    preference = Preference(target_quality=0.9, max_cost_usd=Decimal("0.05"), deadline_s=20)
    told = brief_wishes(observed(preference=preference), observed().pool)
    assert "target: 0.9" in told
    assert "lambda" not in told
    assert "cap $0.05" in told
    assert "seconds: 20" in told


def test_a_pool_that_costs_nothing_has_costs_of_zero() -> None:
    free = make_model("free", price=Price(Rates(Decimal(0), Decimal(0)), date(2026, 1, 1), "tests"))
    observation = observed()
    assert "call_free 0.0" in brief_wishes(observation, [free])


def test_it_says_what_the_long_one_says_in_a_fraction_of_it() -> None:
    observation = observed()
    long, short = (instructions(observation, observation.pool, brief=brief) for brief in (False, True))
    assert 4 * len(short) < len(long)
    for needed in ("call_small", "call_big", "3 turns", "select_response(call_id)"):
        assert needed in short
    simple = observed(preference=Preference(simple=True))
    assert "select_response" not in instructions(simple, simple.pool, brief=True)


async def test_an_episode_with_brief_prompts(mock_upstream: MockUpstream) -> None:
    mock_upstream.script(says(call("call_small"), call("call_big")), says(select("c2")))
    pool, _ = pool_of("small", "big", small=completion("The answer is 8."))
    policy = tool_calling(mock_upstream, prompt="brief")
    episode = await rollout(policy, Environment(pool, Request.from_text("What is 3 + 4?"), Preference()))
    await policy.aclose()
    assert episode.text == "The answer is 7."
    first, second = sent(mock_upstream, 0), sent(mock_upstream, 1)
    assert second["messages"][: len(first["messages"])] == first["messages"]
    described = {tool["function"]["name"]: tool["function"]["description"] for tool in first["tools"]}
    assert described["call_small"] == "budget"
    shown = [json.loads(m["content"]) for m in second["messages"] if m["role"] == "tool"]
    assert shown[0] == {"call_id": "c1", "answer": "8"}
    assert shown[1] == {"call_id": "c2", "answer": "7", "turns_left": 2}


async def test_an_empty_answer_is_told_briefly(mock_upstream: MockUpstream) -> None:
    mock_upstream.script(says(call("call_small")), says(call("call_big")))
    pool, _ = pool_of("small", "big", small=completion(""))
    policy = tool_calling(mock_upstream, prompt="brief")
    await rollout(policy, Environment(pool, Request.from_text("Hi"), Preference(max_turns=2)))
    await policy.aclose()
    shown = json.loads(sent(mock_upstream, 1)["messages"][-1]["content"])
    assert shown["flaws"] == ["empty"]
    assert shown["turns_left"] == 1
