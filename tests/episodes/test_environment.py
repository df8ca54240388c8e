"""The rules of an episode: what each act brings, how it ends, and what is charged."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest
from conftest import make_model
from episode_kit import QUESTION, ask, completion, environment, scripted, usd

from xrouter.episodes.agreement import agreement_classes
from xrouter.episodes.episode import Call, CallModels, Decision, DirectAnswer, Select, Synthesis
from xrouter.errors import InvalidActionError, NoAnswerError, ProviderTimeoutError, ProviderUnavailableError
from xrouter.messages import Completion, Request, Usage

CALL_COST = usd("0.0002")
"""100 prompt tokens at 1 and 50 output tokens at 2 USD a million."""


async def test_calls_of_one_act_overlap() -> None:
    pool, provider = scripted({"a": completion(), "b": completion(), "c": completion()}, delay_s=0.1)
    env = environment(pool)
    loop = asyncio.get_running_loop()
    started = loop.time()
    observation = await env.step(ask("a", "b", "c"))
    assert provider.most_running == 3
    assert loop.time() - started < 0.25
    assert [(r.call_id, r.model, r.turn) for r in observation.responses] == [
        ("c1", "a", 1),
        ("c2", "b", 1),
        ("c3", "c", 1),
    ]


async def test_one_model_called_twice_is_two_responses_selected_by_id() -> None:
    texts = iter(["The answer is 7.", "The answer is 8."])
    pool, _ = scripted({"a": lambda *_: completion(next(texts))})
    env = environment(pool)
    observation = await env.step(ask("a", "a"))
    assert [r.answer for r in observation.responses] == ["7", "8"]
    await env.step(Decision(Select("c2"), confidence=0.9))
    episode = env.episode
    assert (episode.text, episode.stop_reason, episode.confidence) == ("The answer is 8.", "selected", 0.9)
    assert episode.answer_from is not None
    assert episode.answer_from.call_id == "c2"
    assert episode.cost_usd == 2 * CALL_COST
    assert episode.usage == Usage(200, 100)
    assert episode.degraded is None


async def test_a_direct_answer_ends_the_episode_and_its_tokens_are_charged() -> None:
    pool, provider = scripted({"a": completion()})
    env = environment(pool)
    judge = make_model("judge")
    await env.step(Decision(DirectAnswer("7"), usage=Usage(1000, 10), policy_model=judge))
    episode = env.episode
    assert (episode.text, episode.stop_reason, episode.answer_from) == ("7", "direct", None)
    assert episode.cost_usd == usd("0.00102")
    assert episode.usage == Usage(1000, 10)
    assert provider.requests == []


async def test_a_direct_answer_after_calls_is_refused_and_a_synthesis_taken() -> None:
    pool, _ = scripted({"a": completion()})
    env = environment(pool)
    await env.step(ask("a"))
    observation = await env.step(Decision(DirectAnswer("7")))
    assert "direct answer" in observation.errors[0]
    assert observation.turns_left == 1
    await env.step(Decision(Synthesis("It is 7.")))
    assert (env.episode.text, env.episode.stop_reason) == ("It is 7.", "synthesised")


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (Synthesis("x"), "needs responses"),
        (DirectAnswer("  "), "empty"),
        (Select("c1"), "no response has call_id 'c1'"),
        (CallModels(()), "no model was named"),
        (CallModels((Call("ghost"),)), "'ghost' is not in the pool"),
    ],
)
async def test_an_impossible_act_is_told_and_uses_a_turn(action: object, error: str) -> None:
    pool, _ = scripted({"a": completion()})
    env = environment(pool)
    observation = await env.step(Decision(action))  # type: ignore[arg-type]
    assert error in observation.errors[0]
    assert observation.turns_left == 2
    assert not env.done
    observation = await env.step(ask("a"))
    assert observation.errors == ()


async def test_an_unknown_model_does_not_stop_its_siblings() -> None:
    pool, _ = scripted({"a": completion()})
    observation = await environment(pool).step(ask("ghost", "a"))
    assert [r.model for r in observation.responses] == ["a"]
    assert "ghost" in observation.errors[0]


async def test_a_failed_call_is_an_observation_and_never_the_answer() -> None:
    pool, _ = scripted({"a": ProviderUnavailableError("503", model="a"), "b": completion()})
    env = environment(pool)
    observation = await env.step(ask("a"))
    assert (observation.responses[0].error, observation.responses[0].ok) == ("503", False)
    observation = await env.step(Decision(Select("c1")))
    assert "failed and cannot be the answer" in observation.errors[0]
    await env.step(ask("b"))
    episode = env.episode
    assert (episode.stop_reason, episode.text) == ("turn_limit", "The answer is 7.")
    assert episode.degraded is not None
    assert episode.cost_usd == CALL_COST


async def test_a_failed_call_costs_what_the_upstream_reported() -> None:
    pool, _ = scripted(
        {"a": ProviderUnavailableError("cut", usage=Usage(100, 50)), "b": ProviderUnavailableError("no")}
    )
    observation = await environment(pool).step(ask("a", "b"))
    assert [r.cost_usd for r in observation.responses] == [CALL_COST, 0]


async def test_a_provider_that_breaks_its_contract_fails_one_call_without_leaking_its_text() -> None:
    pool, _ = scripted({"a": KeyError("sk-secret"), "b": completion()})
    observation = await environment(pool).step(ask("a", "b"))
    assert observation.responses[0].error == "the provider broke its contract: KeyError"
    assert observation.responses[1].ok


async def test_no_answer_at_all_is_an_error_that_carries_what_was_spent() -> None:
    pool, _ = scripted({"a": ProviderUnavailableError("down", usage=Usage(100, 50))})
    env = environment(pool)
    for _ in range(3):
        await env.step(ask("a"))
    assert env.done
    with pytest.raises(NoAnswerError, match="down") as raised:
        _ = env.episode
    spent = raised.value.episode
    assert spent.stop_reason == "failed"
    assert len(spent.responses) == 3
    assert spent.cost_usd == 3 * CALL_COST


async def test_at_the_turn_limit_the_largest_agreeing_group_wins() -> None:
    pool, _ = scripted(
        {
            "a": completion("The answer is 7."),
            "b": completion("So: \\boxed{7}"),
            "dear": completion("The answer is 8."),
        },
        dear=make_model("dear", capability=0.99),
    )
    env = environment(pool, max_turns=1)
    await env.step(ask("dear", "a", "b"))
    assert env.episode.answer_from is not None
    assert env.episode.answer_from.answer == "7"
    assert env.episode.confidence is None


async def test_ties_at_the_limit_go_to_the_more_capable_model() -> None:
    pool, _ = scripted(
        {"a": completion("The answer is 7."), "dear": completion("The answer is 8.")},
        dear=make_model("dear", capability=0.9),
    )
    env = environment(pool, max_turns=1)
    await env.step(ask("a", "dear"))
    assert env.episode.text == "The answer is 8."


async def test_a_recorded_answer_is_taken_as_it_is() -> None:
    pool, _ = scripted({"a": completion("The answer is 7.", answer="")})
    observation = await environment(pool).step(ask("a"))
    assert observation.responses[0].answer == ""


async def test_simple_mode_returns_one_call_as_it_is() -> None:
    pool, _ = scripted({"a": completion("hi")})
    env = environment(pool, simple=True)
    assert env.observation.turns_left == 1
    await env.step(Decision(CallModels((Call("a"),)), confidence=0.4))
    assert (env.episode.stop_reason, env.episode.text, env.episode.confidence) == ("simple", "hi", 0.4)
    assert env.episode.degraded is None


@pytest.mark.parametrize("names", [("a", "b"), ("ghost",)])
async def test_simple_mode_has_no_second_decision(names: tuple[str, ...]) -> None:
    pool, provider = scripted({"a": completion(), "b": completion()})
    env = environment(pool, simple=True)
    await env.step(ask(*names))
    assert provider.requests == []
    with pytest.raises(NoAnswerError):
        _ = env.episode


async def test_the_clients_parameters_reach_the_model_untouched() -> None:
    pool, provider = scripted({"a": completion()})
    tools = [{"type": "function", "function": {"name": "f"}}]
    request = Request.from_messages(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        tools=tools,
        n=2,
        temperature=0.3,
        response_format={"type": "json_object"},
        x_unknown={"a": 1},
    )
    await environment(pool, request).step(ask("a"))
    assert provider.requests[0][1] == request


async def test_what_the_policy_writes_for_a_call_is_added() -> None:
    pool, provider = scripted({"a": completion()})
    await environment(pool).step(Decision(CallModels((Call("a", "You are a mathematician.", 0.7),))))
    sent = provider.requests[0][1]
    assert sent.messages[0] == {"role": "system", "content": "You are a mathematician."}
    assert sent.messages[1:] == QUESTION.messages
    assert sent.params == {"temperature": 0.7}


async def test_an_unreadable_output_uses_a_turn_and_is_charged() -> None:
    pool, _ = scripted({"a": completion()})
    env = environment(pool)
    decision = Decision(CallModels(()), usage=Usage(1_000_000, 0), policy_model=make_model("judge"))
    observation = env.refuse(InvalidActionError("arguments are not JSON", decision=decision))
    assert observation.errors == ("arguments are not JSON",)
    assert observation.turns_left == 2
    assert env.abandoned().cost_usd == Decimal(1)


async def test_a_finished_episode_takes_no_more_steps() -> None:
    pool, _ = scripted({"a": completion()})
    env = environment(pool)
    await env.step(Decision(DirectAnswer("7")))
    with pytest.raises(NoAnswerError, match="is finished"):
        await env.step(ask("a"))


async def test_cancelling_ends_the_calls_and_keeps_what_was_spent() -> None:
    pool, provider = scripted({"fast": completion(), "slow": lambda *_: asyncio.sleep(30)})
    env = environment(pool)
    task = asyncio.create_task(env.step(ask("fast", "slow")))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert provider.cancelled == 1
    spent = env.abandoned()
    assert [r.ok for r in spent.responses] == [True, False]
    assert spent.responses[1].usage.estimated
    assert spent.cost_usd > CALL_COST


async def test_a_provider_timeout_is_an_observation() -> None:
    pool, _ = scripted({"a": ProviderTimeoutError("no answer in 5 s")})
    observation = await environment(pool).step(ask("a"))
    assert observation.responses[0].error == "no answer in 5 s"


async def test_environments_share_nothing() -> None:
    pool, _ = scripted({"a": completion()}, delay_s=0.01)
    environments = [environment(pool, replace(QUESTION)) for _ in range(20)]
    await asyncio.gather(*(env.step(ask("a")) for env in environments))
    assert all(env.abandoned().cost_usd == CALL_COST for env in environments)
    assert len({env.id for env in environments}) == 20


async def test_a_call_in_the_message_and_one_in_the_text_agree_and_so_does_making_none() -> None:
    function = {"name": "look.up", "arguments": '{"city": "New York", "days": 2}'}
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": function}]}
    pool, _ = scripted(
        {
            "structured": Completion(message, Usage(1, 1)),
            "written": completion("[look_up(days=2.0, city='New York')]"),
            "recorded": completion("", answer="look_up(city='NewYork',days=2);"),
            "unable": completion("None of the functions that I was given can tell."),
            "unwilling": completion("I would rather not look that up, if you do not mind."),
        }
    )
    tool = {"type": "function", "function": {"name": "look.up", "parameters": {"type": "object"}}}
    env = environment(pool, Request.from_text("How is the weather?", tools=[tool]))
    await env.step(ask("structured", "written", "recorded", "unable", "unwilling"))
    assert agreement_classes([r.answer for r in env.observation.responses]) == [0, 0, 0, 1, 1]


async def test_a_turn_takes_so_many_calls_and_no_more() -> None:
    pool, _ = scripted({"a": completion()})
    after = await environment(pool).step(ask(*["a"] * 20))
    assert len(after.responses) == 8
    assert "a turn takes 8 calls, got 20" in after.errors[0]
