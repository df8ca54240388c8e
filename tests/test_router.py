"""The library's front door, with and without a running event loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from decimal import Decimal

import pytest
from serving_kit import ScriptedPolicy, answers_directly, ask_then_select, make_pool, make_router
from upstream import MockUpstream, hang, ok, server_error

from xrouter import Answer, Preference, Request, Router
from xrouter.episodes.episode import Call, CallModels
from xrouter.errors import EpisodeError, RequestError
from xrouter.ledger.memory import MemoryLedger
from xrouter.settings import Settings


def test_a_plain_question(mock_upstream: MockUpstream) -> None:
    mock_upstream.default = ok("Paris")
    with make_router(mock_upstream.base_url) as router:
        answer = router.answer("Capital of France?", temperature=0.5)
        assert len(router.ledger.episodes) == 1
    assert isinstance(answer, Answer)
    assert answer.text == "Paris"
    assert answer.message["role"] == "assistant"
    assert answer.model == "small"
    assert answer.route == (("small",),)
    assert [call.model for call in answer.calls] == ["small"]
    assert answer.cost_usd == Decimal("0.000025")
    assert answer.reference_model == "big"
    assert answer.savings == pytest.approx(float(1 - answer.cost_usd / answer.reference_cost_usd))
    assert answer.confidence == 0.75
    assert answer.usage.total_tokens == 18
    assert (answer.policy, answer.policy_version) == ("scripted", "7")
    assert answer.episode.text == "Paris"
    assert mock_upstream.requests[0].body["temperature"] == 0.5


def test_a_conversation(mock_upstream: MockUpstream) -> None:
    talk = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    with make_router(mock_upstream.base_url) as router:
        router.answer(talk)
    assert mock_upstream.requests[0].body["messages"] == talk


async def test_the_sync_answer_inside_a_running_loop(mock_upstream: MockUpstream) -> None:
    with make_router(mock_upstream.base_url) as router:
        assert router.answer("hi").text == "Hello."
        assert (await router.answer_async("hi")).text == "Hello."


async def test_many_async_answers_at_once(mock_upstream: MockUpstream) -> None:
    async with make_router(mock_upstream.base_url) as router:
        answers = await asyncio.gather(*(router.answer_async(f"q{i}") for i in range(20)))
        assert len({answer.episode.id for answer in answers}) == 20
        assert len(router.ledger.episodes) == 20


def test_answers_from_several_threads(mock_upstream: MockUpstream) -> None:
    answers: list[Answer] = []
    with make_router(mock_upstream.base_url) as router:
        threads = [threading.Thread(target=lambda: answers.append(router.answer("hi"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [answer.text for answer in answers] == ["Hello."] * 8


def test_answers_across_event_loops(mock_upstream: MockUpstream) -> None:
    with make_router(mock_upstream.base_url) as router:
        for _ in range(2):
            assert asyncio.run(router.answer_async("hi")).text == "Hello."


async def test_a_cancelled_answer_is_booked(mock_upstream: MockUpstream) -> None:
    mock_upstream.default = hang()
    async with make_router(mock_upstream.base_url) as router:
        asking = asyncio.create_task(router.answer_async("a long story"))
        await mock_upstream.wait_requests(1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await mock_upstream.requests[0].wait_disconnected()
        ledger = router.ledger
    (entry,) = ledger.episodes
    assert entry.error
    assert entry.cost_usd == sum(call.cost_usd for call in ledger.calls) > 0


async def test_closing_cancels_and_books_what_is_under_way(mock_upstream: MockUpstream) -> None:
    mock_upstream.default = hang()
    router = make_router(mock_upstream.base_url)
    asking = asyncio.create_task(router.answer_async("a long story"))
    await mock_upstream.wait_requests(1)
    await asyncio.to_thread(router.close)
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert len(router.ledger.episodes) == 1


def test_an_episode_without_an_answer_is_booked(mock_upstream: MockUpstream) -> None:
    mock_upstream.default = server_error()
    policy = ScriptedPolicy(lambda observation: CallModels((Call("small"), Call("big"))))
    with make_router(mock_upstream.base_url, policy) as router, pytest.raises(EpisodeError):
        router.answer("hi")
    (entry,) = router.ledger.episodes
    assert entry.error
    assert {call.model for call in router.ledger.calls} == {"small", "big"}


async def test_route_runs_on_the_callers_loop(mock_upstream: MockUpstream) -> None:
    router = make_router(mock_upstream.base_url)
    episode = await router.route(Request.from_text("hi"), Preference(simple=True))
    assert episode.text == "Hello."
    assert router.ledger.episodes[0].episode_id == episode.id
    await router.aclose()


@pytest.mark.parametrize(
    ("asked", "wants", "param"),
    [
        ([], {}, "messages"),
        ([{"content": "no role"}], {}, "messages[0].role"),
        ("hi", {"preset": "cheap"}, "preset"),
        ("hi", {"preset": "economy", "cost_weight": 1.0}, "cost_weight"),
        ("hi", {"cost_weight": float("nan")}, "cost_weight"),
        ("hi", {"cost_weight": -0.1}, "cost_weight"),
        ("hi", {"target_quality": 0.0}, "target_quality"),
        ("hi", {"target_quality": 1}, "target_quality"),
        ("hi", {"target_quality": float("nan")}, "target_quality"),
        ("hi", {"target_quality": "high"}, "target_quality"),
        ("hi", {"target_quality": 0.9, "cost_weight": 0.0}, "target_quality"),
        ("hi", {"target_quality": 0.9, "preset": "economy"}, "target_quality"),
        ("hi", {"max_cost_usd": "NaN"}, "max_cost_usd"),
        ("hi", {"max_cost_usd": Decimal("-1")}, "max_cost_usd"),
        ("hi", {"deadline_s": -1}, "deadline_s"),
        ("hi", {"stream": True}, "stream"),
        ("hi", {"model": "small"}, "model"),
    ],
)
def test_bad_input_names_the_argument(asked: object, wants: dict[str, object], param: str) -> None:
    with (
        make_router("http://127.0.0.1:1/v1", answers_directly("x")) as router,
        pytest.raises(RequestError) as caught,
    ):
        router.answer(asked, **wants)
    assert caught.value.param == param
    assert router.ledger.episodes == []


def test_preferences_come_from_the_settings() -> None:
    settings = Settings(presets={"mine": 1.25}, default_preset="mine", max_turns=2, request_timeout_s=9.0)
    router = make_router("http://127.0.0.1:1/v1", settings=settings)
    preference = router.preference()
    assert (preference.cost_weight, preference.max_turns, preference.deadline_s) == (1.25, 2, 9.0)
    assert router.preference(max_cost_usd=0.1).max_cost_usd == Decimal("0.1")


def test_a_target_quality_is_passed_on() -> None:
    router = make_router("http://127.0.0.1:1/v1")
    assert router.preference(target_quality=0.95).target_quality == 0.95
    assert router.preference().target_quality is None


def test_the_reference_model_can_be_set() -> None:
    router = Router(
        ask_then_select("small"),
        pool=make_pool("http://127.0.0.1:1/v1"),
        ledger=MemoryLedger(),
        settings=Settings(reference_model="small"),
    )
    assert router.reference.name == "small"


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = (
        "import sys, xrouter; assert xrouter.__version__; assert 'Router' in dir(xrouter);"
        "heavy = {'numpy', 'aiohttp', 'torch', 'xrouter.router'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
