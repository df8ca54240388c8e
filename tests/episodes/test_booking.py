"""Episodes as ledger entries."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from conftest import make_model
from episode_kit import ScriptedPolicy, ask, completion, environment, scripted, usd

from xrouter.episodes.booking import entries
from xrouter.episodes.episode import Decision, DirectAnswer, Select
from xrouter.errors import NoAnswerError, ProviderUnavailableError
from xrouter.messages import Usage

POLICY = ScriptedPolicy([])
DEAR = make_model("dear", capability=0.9, simulated=True)


async def test_one_row_a_call_and_one_an_episode() -> None:
    pool, _ = scripted(
        {"a": completion(), "b": ProviderUnavailableError("503"), "dear": completion()}, dear=DEAR
    )
    env = environment(pool, cost_weight=0.7)
    judge = make_model("judge", provider="local")
    first = ask("a", "b")
    await env.step(Decision(first.action, usage=Usage(10, 5), policy_model=judge))
    await env.step(ask("dear"))
    await env.step(Decision(Select("c1"), confidence=0.8))
    entry, calls = entries(env.episode, pool, POLICY, at=123.0)
    assert [(c.call_id, c.kind, c.model, c.provider, c.turn, c.error) for c in calls] == [
        ("c1", "call", "a", "mock", 1, None),
        ("c2", "call", "b", "mock", 1, "503"),
        ("c3", "call", "dear", "mock", 2, None),
        ("p1", "policy", "judge", "local", 1, None),
    ]
    assert entry.cost_usd == sum((c.cost_usd for c in calls), Decimal(0)) == usd("0.00042")
    assert (entry.route, entry.calls, entry.answer_model, entry.stop_reason) == (
        "a+b > dear",
        3,
        "a",
        "selected",
    )
    assert (entry.policy, entry.policy_version, entry.cost_weight, entry.confidence) == (
        "scripted",
        "1",
        0.7,
        0.8,
    )
    assert (entry.reference_model, entry.reference_cost_usd) == ("dear", usd("0.0002"))
    assert [c.simulated for c in calls] == [False, False, True, False]
    assert entry.simulated
    assert {c.at for c in calls} == {entry.at} == {123.0}


async def test_the_reference_is_estimated_from_the_answers_tokens_where_it_was_not_called() -> None:
    pool, _ = scripted({"a": completion("7", 100, 50), "dear": completion()}, dear=DEAR)
    reference = make_model("dear", price=make_model().price)
    env = environment(pool, simple=True)
    await env.step(ask("a"))
    entry, _ = entries(env.episode, pool, POLICY, reference)
    assert entry.reference_cost_usd == usd("0.0002")
    assert not entry.simulated


async def test_the_estimate_allows_for_answers_that_are_usually_longer() -> None:
    brief = make_model("a", typical_output_tokens=100)
    pool, _ = scripted({"a": completion("7", 100, 50), "dear": completion()}, a=brief, dear=DEAR)
    env = environment(pool, simple=True)
    await env.step(ask("a"))
    lengthy = make_model("dear", typical_output_tokens=300)
    entry, _ = entries(env.episode, pool, POLICY, lengthy)
    assert entry.reference_cost_usd == usd("0.0004")  # 100 tokens in, 150 out at 1 and 2 USD per million
    unstated, _ = entries(env.episode, pool, POLICY, DEAR)
    assert unstated.reference_cost_usd == usd("0.0002")


async def test_a_direct_answer_has_a_route_of_its_own() -> None:
    pool, _ = scripted({"a": completion()})
    env = environment(pool)
    await env.step(Decision(DirectAnswer("7")))
    entry, calls = entries(env.episode, pool, POLICY)
    assert (entry.route, entry.calls, entry.answer_model, calls) == ("direct", 0, None, [])


async def test_a_failed_request_is_booked_with_its_error() -> None:
    pool, _ = scripted({"a": ProviderUnavailableError("503", usage=Usage(100, 50))})
    env = environment(pool, simple=True)
    await env.step(ask("a"))
    try:
        _ = env.episode
    except NoAnswerError as error:
        entry, calls = entries(error.episode, pool, POLICY, error=error)
    assert entry.stop_reason == "failed"
    assert entry.error is not None
    assert "503" in entry.error
    assert entry.cost_usd == calls[0].cost_usd == usd("0.0002")
    assert entry.reference_cost_usd == 0


async def test_the_target_quality_is_booked() -> None:
    pool, _ = scripted({"a": completion()})
    env = environment(pool, target_quality=0.9)
    await env.step(Decision(DirectAnswer("7"), 0.8999))
    entry, _ = entries(env.episode, pool, POLICY)
    assert (entry.target_quality, entry.degraded) == (0.9, "target_quality 0.9 not reached: 0.899")


async def test_foreign_errors_give_their_type_alone() -> None:
    pool, _ = scripted({"a": completion()})
    abandoned = environment(pool).abandoned()
    assert entries(abandoned, pool, POLICY, error=ValueError("sk-secret"))[0].error == "ValueError"
    assert entries(abandoned, pool, POLICY, error=asyncio.CancelledError())[0].error == "CancelledError"
