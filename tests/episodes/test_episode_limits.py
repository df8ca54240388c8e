"""The hard limits: money and time."""

from __future__ import annotations

import asyncio
from datetime import date
from decimal import Decimal

import pytest
from conftest import make_model
from episode_kit import QUESTION, ask, completion, environment, scripted, usd
from hypothesis import given, settings
from hypothesis import strategies as st

from xrouter.catalog.model import Model
from xrouter.catalog.price import Price, Rates, Tier
from xrouter.episodes.cost import bound_prompt_tokens
from xrouter.episodes.episode import Decision, DirectAnswer, Select
from xrouter.errors import BudgetExceededError, DeadlineExceededError
from xrouter.messages import Completion, Request, Usage


def priced(name: str, rate_in: str, rate_out: str, **fields: object) -> Model:
    return make_model(
        name, price=Price(Rates(Decimal(rate_in), Decimal(rate_out)), date(2026, 1, 1), "tests"), **fields
    )


async def test_a_call_that_does_not_fit_the_cap_is_refused_and_the_others_are_made() -> None:
    pool, provider = scripted(
        {"cheap": completion(), "dear": completion()}, dear=priced("dear", "100", "1000")
    )
    env = environment(pool, max_cost_usd=usd("0.01"))
    observation = await env.step(ask("dear", "cheap"))
    assert [name for name, _ in provider.requests] == ["cheap"]
    assert observation.errors[0].startswith("calling dear is refused: ")
    assert observation.money_left_usd == usd("0.0098")


async def test_output_is_limited_to_what_the_cap_pays_for() -> None:
    pool, provider = scripted({"a": completion()})
    await environment(pool, max_cost_usd=usd("0.001")).step(ask("a"))
    limit = provider.requests[0][1].params["max_tokens"]
    worst = bound_prompt_tokens(QUESTION) * usd("0.000001") + limit * usd("0.000002")
    assert worst <= usd("0.001") < worst + usd("0.000002")


async def test_a_limit_of_the_client_that_fits_stays_as_it_is() -> None:
    request = Request.from_text("Hi", max_completion_tokens=20)
    pool, provider = scripted({"a": completion()})
    await environment(pool, request, max_cost_usd=usd("0.001")).step(ask("a"))
    assert provider.requests[0][1] == request


@pytest.mark.parametrize(
    ("params", "reasoning", "name"),
    [
        ({}, False, "max_tokens"),
        ({}, True, "max_completion_tokens"),
        ({"max_completion_tokens": 900}, False, "max_completion_tokens"),
    ],
)
async def test_the_limit_goes_under_the_name_the_model_reads(
    params: dict[str, int], reasoning: bool, name: str
) -> None:
    pool, provider = scripted({"a": completion()}, a=make_model("a", reasoning=reasoning))
    request = Request.from_text("Hi", **params)
    await environment(pool, request, max_cost_usd=usd("0.001")).step(ask("a"))
    assert set(provider.requests[0][1].params) == {name}
    assert provider.requests[0][1].params[name] < 500


async def test_a_cap_that_pays_for_nothing_ends_the_episode() -> None:
    pool, provider = scripted({"a": completion()})
    env = environment(pool, max_cost_usd=usd("0.00001"))
    await env.step(ask("a"))
    assert env.done
    with pytest.raises(BudgetExceededError, match="no further call affordable"):
        _ = env.episode
    assert provider.requests == []


async def test_a_direct_answer_is_open_under_a_cap_of_zero() -> None:
    pool, _ = scripted({"a": completion()})
    env = environment(pool, max_cost_usd=Decimal(0))
    await env.step(Decision(DirectAnswer("7")))
    assert env.episode.text == "7"


async def test_free_models_may_be_called_under_a_cap_of_zero() -> None:
    pool, _ = scripted(
        {"a": completion(), "b": completion()}, a=priced("a", "0", "0"), b=priced("b", "0", "0")
    )
    observation = await environment(pool, max_cost_usd=Decimal(0)).step(ask("a", "b"))
    assert len(observation.responses) == 2
    assert observation.money_left_usd == 0


async def test_when_the_money_is_used_up_the_best_answer_so_far_is_returned() -> None:
    pool, _ = scripted({"a": completion("The answer is 7.", 100, 400)})
    env = environment(pool, max_cost_usd=usd("0.0012"))
    await env.step(ask("a"))
    assert not env.done
    await env.step(ask("a"))
    assert (env.episode.stop_reason, env.episode.text) == ("cost_limit", "The answer is 7.")
    assert "0.0012" in (env.episode.degraded or "")


async def test_a_policy_that_overspends_ends_the_episode() -> None:
    pool, _ = scripted({"a": completion()})
    env = environment(pool, max_cost_usd=usd("0.01"))
    decision = ask("a")
    await env.step(Decision(decision.action, usage=Usage(1_000_000, 0), policy_model=make_model("judge")))
    assert env.done
    with pytest.raises(BudgetExceededError) as raised:
        _ = env.episode
    assert raised.value.episode.cost_usd == 1


rates = st.decimals(0, 500, places=3)
models = st.lists(st.tuples(rates, rates, st.none() | rates, st.booleans()), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(
    models=models,
    cap=st.decimals(0, 1, places=6),
    text=st.text(max_size=300),
    share=st.floats(0, 1),
    n=st.sampled_from([None, 1, 3]),
    turns=st.integers(1, 4),
    data=st.data(),
)
def test_the_cap_is_never_exceeded(
    models: list[tuple[Decimal, Decimal, Decimal | None, bool]],
    cap: Decimal,
    text: str,
    share: float,
    n: int | None,
    turns: int,
    data: st.DataObject,
) -> None:
    """Upstreams that honour the output limit and use between nothing and all of it, prompts up to their bound."""

    def answer(model: Model, request: Request) -> Completion:
        limit = request.max_output_tokens
        limit = model.max_output_tokens if limit is None else min(limit, model.max_output_tokens)
        output = int(limit * (1.0 if data.draw(st.booleans()) else share)) * (n or 1)
        prompt = int(bound_prompt_tokens(request) * (1.0 if data.draw(st.booleans()) else share))
        return Completion(
            {"content": "7"}, Usage(prompt, output, reasoning_tokens=data.draw(st.integers(0, output)))
        )

    pool_models = {
        f"m{i}": make_model(
            f"m{i}",
            price=Price(
                Rates(rate_in, rate_out, reasoning=reasoning),
                date(2026, 1, 1),
                "tests",
                (Tier(100, Rates(rate_in * 2, rate_out * 2)),) if tiered else (),
            ),
        )
        for i, (rate_in, rate_out, reasoning, tiered) in enumerate(models)
    }
    pool, _ = scripted(dict.fromkeys(pool_models, answer), **pool_models)
    request = Request.from_text(text, **({} if n is None else {"n": n}))
    env = environment(pool, request, max_cost_usd=cap, max_turns=turns)

    async def play() -> None:
        while not env.done:
            names = data.draw(st.lists(st.sampled_from(list(pool_models)), min_size=1, max_size=4))
            await env.step(ask(*names))

    asyncio.run(play())
    assert env.abandoned().cost_usd <= cap


async def test_a_deadline_ends_unfinished_calls_and_keeps_what_came_in_time() -> None:
    pool, provider = scripted({"fast": completion(), "slow": lambda *_: asyncio.sleep(30)})
    env = environment(pool, deadline_s=0.15)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await env.step(ask("slow", "fast"))
    assert 0.1 < loop.time() - started < 1
    assert provider.cancelled == 1
    episode = env.episode
    assert (episode.stop_reason, episode.text) == ("time_limit", "The answer is 7.")
    slow = episode.responses[0]
    assert slow.error is not None
    assert slow.usage.estimated
    assert slow.usage.completion_tokens == 0
    assert slow.cost_usd == make_model().price.cost(slow.usage) > 0


async def test_a_deadline_without_any_answer_is_an_error() -> None:
    pool, _ = scripted({"slow": lambda *_: asyncio.sleep(30)})
    env = environment(pool, deadline_s=0.05)
    await env.step(ask("slow"))
    with pytest.raises(DeadlineExceededError) as raised:
        _ = env.episode
    assert len(raised.value.episode.responses) == 1


async def test_calls_after_the_deadline_are_not_made_but_a_selection_is_taken() -> None:
    pool, provider = scripted({"a": completion()})
    now = [0.0]
    from xrouter.episodes.environment import Environment
    from xrouter.episodes.episode import Preference

    def at_work() -> Environment:
        now[0] = 0.0
        return Environment(pool, QUESTION, Preference(deadline_s=10), clock=lambda: now[0])

    env = at_work()
    await env.step(ask("a"))
    assert env.observation.time_left_s == 10
    now[0] = 11.0
    await env.step(ask("a"))
    assert len(provider.requests) == 1
    assert env.episode.stop_reason == "time_limit"
    assert env.episode.latency_s == 11

    env = at_work()
    await env.step(ask("a"))
    now[0] = 11.0
    await env.step(Decision(Select("c1")))
    assert env.episode.stop_reason == "selected"
