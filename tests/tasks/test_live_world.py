"""Live models as a world: what is paid for once, what is charged, and what a limit on money does."""

from __future__ import annotations

import asyncio
import gc
import logging
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from live_world_kit import ONE_USD, TABLE, ask, live_sample, live_world, worst_usd
from router_training_kit import calls, episode
from upstream import MockUpstream, Received, half_json, hang, ok, rate_limited, server_error

from xrouter.errors import (
    DataError,
    ProviderResponseError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    RunBooksError,
    RunBudgetError,
)
from xrouter.messages import Completion, Request
from xrouter.providers.openai import OpenAIProvider
from xrouter.tasks.live_world import LiveWorld
from xrouter.tasks.remembering import decode, encode
from xrouter.tasks.world import World
from xrouter.training.router.play import play

Open = Callable[..., LiveWorld]


@pytest.fixture
async def opened(mock_upstream: MockUpstream, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens worlds over one file; they are closed at the end."""
    worlds: list[LiveWorld] = []

    def open_(usd: str = "1", **more: Any) -> LiveWorld:
        worlds.append(live_world(mock_upstream.base_url, tmp_path / "run" / "live.sqlite", usd, **more))
        return worlds[-1]

    yield open_
    for world in worlds:
        await world.aclose()


def paid(world: LiveWorld) -> Decimal:
    return world._purse.spending.spent_usd


def set_aside(world: LiveWorld) -> Decimal:
    return world._purse.spending.set_aside_usd


async def test_an_equal_call_is_paid_for_once(opened: Open, mock_upstream: MockUpstream) -> None:
    world = opened()
    first = await ask(world, "How many?", temperature=0.5)
    again = await ask(world, "How many?", temperature=0.5)
    assert len(mock_upstream.requests) == 1
    assert (first.text, first.usage, first.latency_s) == (again.text, again.usage, again.latency_s)
    for text, model, params in (
        ("How many?", "small", {"temperature": 0.6}),
        ("How many?", "small", {}),
        ("How many?", "big", {"temperature": 0.5}),
        ("How few?", "small", {"temperature": 0.5}),
    ):
        await ask(world, text, model, **params)
    assert len(mock_upstream.requests) == 5
    assert paid(world) == 5 * ONE_USD
    assert world.figures() == {
        "world/paid_usd": pytest.approx(float(5 * ONE_USD)),
        "world/set_aside_usd": 0.0,
        "world/calls": 5.0,
        "world/failed": 0.0,
        "world/reused": 1.0,
    }


async def test_equal_calls_at_the_same_time_are_one(opened: Open, mock_upstream: MockUpstream) -> None:
    mock_upstream.default = ok("same", delay_s=0.1)
    world = opened()
    answers = await asyncio.gather(*(ask(world, "How many?") for _ in range(8)))
    assert {answer.text for answer in answers} == {"same"}
    assert len(mock_upstream.requests) == 1


async def test_several_answers_are_kept_and_given_in_turn(opened: Open, mock_upstream: MockUpstream) -> None:
    mock_upstream.script(ok("a"), ok("b"), ok("c"))
    world = opened(cache_samples=3)
    said = [(await ask(world, "How many?")).text for _ in range(4)]
    other = opened(cache_samples=3)
    said += [(await ask(other, "How many?")).text for _ in range(3)]
    assert said == ["a", "b", "c", "a", "b", "c", "a"], "the turn is the run's, whichever process asks"
    assert len(mock_upstream.requests) == 3


async def test_a_group_of_rollouts_sees_different_answers(opened: Open, mock_upstream: MockUpstream) -> None:
    mock_upstream.script(*(ok(text, delay_s=0.05) for text in "abcd"))
    world = opened(cache_samples=4)
    said = [answer.text for answer in await asyncio.gather(*(ask(world, "How many?") for _ in range(8)))]
    assert sorted(said) == sorted("aabbccdd")
    assert said[:4] == said[4:]
    assert len(mock_upstream.requests) == 4


async def test_an_episode_is_charged_alike_whether_its_answers_were_kept_or_not(
    opened: Open, mock_upstream: MockUpstream
) -> None:
    mock_upstream.default = ok("So the answer is 42.")
    world = opened()
    assert isinstance(world, World)
    results = []
    for _ in range(2):
        one = episode(world, live_sample(0, "How many?"))
        await one.start()
        assert await one.reply(calls("small")) is None
        results.append(one.result)
    assert len(mock_upstream.requests) == 1
    assert results[0].outcome.cost_usd == results[1].outcome.cost_usd
    assert results[0].outcome.cost_usd - results[0].router_cost_usd == ONE_USD
    assert [result.outcome.quality for result in results] == [1.0, 1.0]
    assert results[0].reward == results[1].reward
    assert paid(world) == ONE_USD


async def test_a_failure_is_an_observation_and_is_not_kept(opened: Open, mock_upstream: MockUpstream) -> None:
    mock_upstream.script(server_error(), rate_limited(None), ok("42"))
    world = opened(usd="0.01")
    one = episode(world, live_sample(0, "How many?", max_turns=3))
    await one.start()
    second = await one.reply(calls("small"))
    assert second is not None
    assert "500" in second.messages[-1]["content"]
    third = await one.reply(calls("big"))
    assert third is not None
    assert await one.reply(calls("small")) is None
    assert (one.result.outcome.quality, one.result.answered_by) == (1.0, "small")
    assert paid(world) == ONE_USD, "an upstream that refused charges nothing"
    assert world.figures()["world/failed"] == 2


async def test_a_failed_call_that_may_have_been_charged_counts_at_its_worst(
    opened: Open, mock_upstream: MockUpstream
) -> None:
    mock_upstream.script(half_json(), hang())
    world = opened(call_timeout_s=0.3)
    with pytest.raises(ProviderResponseError):
        await ask(world, "How many?")
    assert paid(world) == worst_usd(world, "How many?")
    with pytest.raises(ProviderTimeoutError):
        await ask(world, "How few?")
    assert paid(world) == worst_usd(world, "How many?") + worst_usd(world, "How few?")


async def test_every_attempt_of_a_retried_call_is_booked(opened: Open, mock_upstream: MockUpstream) -> None:
    mock_upstream.script(hang(), server_error(), ok())
    world = opened(call_timeout_s=0.3, max_retries=2)
    await ask(world, "How many?")
    assert len(mock_upstream.requests) == 3
    assert paid(world) == worst_usd(world, "How many?") + ONE_USD
    assert world.figures()["world/calls"] == 3


async def test_both_calls_of_a_hedged_pair_are_booked_and_one_is_charged(
    opened: Open, mock_upstream: MockUpstream
) -> None:
    mock_upstream.script(hang(), ok("42"), ok("42"))
    world = opened(models={"small": {"hedge_after_s": 0.05}, "big": {}})
    one = episode(world, live_sample(0, "How many?"))
    await one.start()
    await one.reply(calls("small"))
    assert one.result.outcome.cost_usd - one.result.router_cost_usd == ONE_USD
    assert paid(world) == worst_usd(world, "How many?") + ONE_USD


async def test_a_call_that_went_to_a_second_endpoint_is_booked_at_both(
    opened: Open, mock_upstream: MockUpstream
) -> None:
    dear = {"input": "10", "output": "20", "dated": date(2026, 1, 1), "source": "tests"}
    places = [
        {"name": "a", "provider": "mock", "id": "a"},
        {"name": "b", "provider": "mock", "id": "b", "price": dear},
    ]

    async def first_hangs(received: Received, request: web.Request) -> web.StreamResponse:
        return await (hang() if len(mock_upstream.requests) == 1 else ok("42"))(received, request)

    mock_upstream.default = first_hangs
    table = {name: value for name, value in TABLE.items() if name != "provider"}
    world = opened(models={"small": {**table, "endpoints": places}, "big": {}}, call_timeout_s=0.4)
    said = await ask(world, "How many?")
    worst, cheap = worst_usd(world, "How many?"), ONE_USD
    assert said.endpoint is not None
    first, second = (request.body["model"] for request in mock_upstream.requests)
    expected = worst / 10 + 10 * cheap if (first, second) == ("a", "b") else worst + cheap
    assert paid(world) == expected
    again = await ask(world, "How many?")
    assert again.endpoint == said.endpoint, "so that it is charged at that one's price"


async def test_spending_is_logged_as_it_grows(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "xrouter.tasks.metered")
    world = opened(usd="0.001", max_output_tokens=10)
    for i in range(10):
        await ask(world, f"{i}?")
    assert caplog.messages == [
        "the run has spent 0.000100 of 0.001 USD in 4 calls",
        "the run has spent 0.000200 of 0.001 USD in 8 calls",
    ]


async def test_a_call_that_nobody_waits_for_any_more_is_kept(
    opened: Open, mock_upstream: MockUpstream
) -> None:
    mock_upstream.default = ok("late", delay_s=0.2)
    world = opened()
    asking = asyncio.create_task(ask(world, "How many?"))
    await mock_upstream.wait_requests(1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await world.aclose()
    assert (await ask(opened(), "How many?")).text == "late"
    assert len(mock_upstream.requests) == 1


async def test_the_limit_ends_the_run_not_the_call_and_the_run_resumes(
    opened: Open, mock_upstream: MockUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    questions = [f"How many is {i}?" for i in range(8)]
    samples = [live_sample(i, question) for i, question in enumerate(questions)]
    mock_upstream.default = ok("42", usage={"prompt_tokens": 10, "completion_tokens": 900})
    cost = Decimal("0.00181")
    replied: list[int] = []

    async def replies(requests: Sequence[Request]) -> list[Completion]:
        replied.append(len(requests))
        return [calls("small") for _ in requests]

    world = opened(usd="0.008")
    with pytest.raises(RunBudgetError, match=r"world.max_cost_usd = 0.008 is used up.*resume") as raised:
        await play([episode(world, sample) for sample in samples], replies)
    assert raised.value.code == "run_budget_exhausted"
    await world.aclose()
    made = len(mock_upstream.requests)
    assert 3 <= made <= 4
    assert paid(world) == made * cost <= Decimal("0.008")
    gc.collect()
    assert caplog.text == "", "no broken contract, and no error that nobody looked at"

    again = opened(usd="0.02")
    assert again.figures()["world/paid_usd"] == pytest.approx(float(made * cost)), "known from the start"
    results = await play([episode(again, sample) for sample in samples], replies)
    assert len(mock_upstream.requests) == 8, "nothing that was paid for is asked again"
    assert [result.outcome.quality for result in results] == [1.0] * 8
    assert paid(again) == 8 * cost


async def test_of_several_calls_of_a_turn_one_at_the_limit_ends_the_run(opened: Open) -> None:
    world = opened(usd="0.000001")
    one = episode(world, live_sample(0, "How many?", max_turns=3))
    await one.start()
    with pytest.raises(RunBudgetError):
        await one.reply(calls("small", "big"))


async def test_calls_wait_for_those_under_way_where_these_may_leave_enough(
    opened: Open, mock_upstream: MockUpstream
) -> None:
    mock_upstream.default = ok("ok", delay_s=0.02)
    world = opened()
    limit = worst_usd(world, "How many is 10?") + 5 * ONE_USD
    tight = opened(usd=str(limit))
    answers = await asyncio.gather(*(ask(tight, f"How many is {i}?") for i in range(4)))
    assert len(answers) == 4
    assert paid(tight) == 4 * ONE_USD


async def test_a_limit_on_output_is_sent_and_less_is_set_aside(
    opened: Open, mock_upstream: MockUpstream
) -> None:
    world = opened(usd="0.001", max_output_tokens=100)
    await ask(world, "How many?")
    await ask(world, "How many?", max_tokens=50)
    assert [r.body["max_tokens"] for r in mock_upstream.requests] == [100, 50]
    with pytest.raises(RunBudgetError):
        await ask(opened(usd="0.001"), "How few?")


async def test_free_models_need_no_money(opened: Open, mock_upstream: MockUpstream) -> None:
    free = {"price": {"input": "0", "output": "0", "dated": date(2026, 1, 1), "source": "tests"}}
    world = opened(usd="0.000001", models={"small": free, "big": {}})
    assert (await ask(world, "How many?")).text == "Hello."
    with pytest.raises(RunBudgetError, match="'big'"):
        await ask(world, "How many?", "big")


async def test_no_more_calls_of_a_model_are_under_way_than_allowed(
    opened: Open, mock_upstream: MockUpstream
) -> None:
    mock_upstream.default = ok(delay_s=0.3)
    world = opened(max_concurrency_per_model=2, call_timeout_s=0.8)
    asking = [asyncio.create_task(ask(world, f"How many is {i}?")) for i in range(6)]
    await mock_upstream.wait_requests(2)
    await asyncio.sleep(0.1)
    assert len(mock_upstream.requests) == 2
    assert (await world._store.spending()).set_aside_usd == 2 * worst_usd(world, "How many is 0?")
    assert len(await asyncio.gather(*asking)) == 6, "waiting for a turn is no failed call"
    assert paid(world) == 6 * ONE_USD
    assert set_aside(world) == 0


async def test_a_call_cancelled_while_it_waits_for_money_leaves_none_set_aside(
    opened: Open, mock_upstream: MockUpstream
) -> None:
    world = opened()
    waiting = asyncio.create_task(world._purse.set_aside("small", Decimal("0.5")))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    spending = await world._store.spending()
    assert (spending.committed_usd, spending.calls) == (0, 0)


async def test_an_end_of_the_loop_books_calls_under_way_at_their_worst(
    opened: Open, mock_upstream: MockUpstream
) -> None:
    mock_upstream.default = hang()
    world = opened()
    asking = asyncio.create_task(ask(world, "How many?"))
    await mock_upstream.wait_requests(1)
    for flight in world._remembering._flights.values():
        flight.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    spending = await world._store.spending()
    assert (spending.spent_usd, spending.set_aside_usd) == (worst_usd(world, "How many?"), 0)


async def test_a_provider_that_breaks_its_contract_is_booked_at_its_worst(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(*args: object, **more: object) -> Completion:
        raise ZeroDivisionError

    monkeypatch.setattr(OpenAIProvider, "complete", breaks)
    world = opened()
    one = episode(world, live_sample(0, "How many?", max_turns=2))
    await one.start()
    assert await one.reply(calls("small")) is not None
    assert paid(world) == worst_usd(world, "How many?")


async def test_the_file_is_its_owners_alone_and_holds_no_question(
    opened: Open, tmp_path: Path, mock_upstream: MockUpstream
) -> None:
    world = opened()
    await ask(world, "a question that must not be written down")
    await world.aclose()
    file = tmp_path / "run" / "live.sqlite"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"must not be written" not in file.read_bytes()


async def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    with pytest.raises(RunBooksError, match=r"something else.*world.cache"):
        live_world("http://127.0.0.1:1/v1", file)
    (tmp_path / "text").write_text("no database at all, but long enough to look like one" * 100)
    with pytest.raises(RunBooksError, match="no sound SQLite file"):
        live_world("http://127.0.0.1:1/v1", tmp_path / "text")


async def test_a_store_that_fails_ends_the_run(opened: Open, mock_upstream: MockUpstream) -> None:
    world = opened()
    await world._store.aclose()
    one = episode(world, live_sample(0, "How many?", max_turns=3))
    await one.start()
    with pytest.raises(RunBooksError, match="closed"):
        await one.reply(calls("small"))


async def test_an_unreadable_reference_is_an_error(opened: Open, mock_upstream: MockUpstream) -> None:
    one = episode(opened(), live_sample(0, "How many?", "no number"))
    await one.start()
    with pytest.raises(DataError, match="not a number"):
        await one.reply(calls("small"))


async def test_an_endpoint_that_is_gone_is_an_observation(tmp_path: Path) -> None:
    world = live_world("http://127.0.0.1:1/v1", tmp_path / "live.sqlite")
    with pytest.raises(ProviderUnavailableError):
        await ask(world, "How many?")
    await world.aclose()


def test_an_answer_comes_back_as_it_was_kept() -> None:
    from xrouter.messages import Usage

    message = {"role": "assistant", "content": "\ud800 odd", "tool_calls": [{"id": "1"}]}
    kept = Completion(message, Usage(1, 2, 3, 4, True), "length", "served", 1.5, answer="42", endpoint="eu")
    assert decode(encode(kept)) == kept
    with pytest.raises(RunBooksError, match="cannot be read"):
        decode("{}")
