"""The cache as a gateway uses it."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from xrouter.caching.cache import Cache
from xrouter.caching.control import CacheControl
from xrouter.caching.question import Question
from xrouter.caching.store import MemoryStore
from xrouter.errors import ConfigurationError, StateError
from xrouter.messages import Request
from xrouter.settings_tables.cache import CacheSettings
from xrouter.state.memory import MemoryState
from xrouter.state.sqlite import SqliteState

COST = Decimal("0.0021")
PLAIN = CacheControl()


def ask(text: str = "What is the capital of France?", scope: str = "key:1", **params: Any) -> Question:
    return Question(scope, "xrouter", Request.from_text(text, **params))


def answer(text: str = "Paris", finish: str = "stop") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"id": "chatcmpl-1", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


async def through(
    cache: Cache, question: Question, control: CacheControl = PLAIN, said: str = "Paris"
) -> tuple[str, str]:
    """(status, text): asks the cache, and a model that says `said` where that must be."""
    async with cache.asking(question, control) as asking:
        if asking.hit is not None:
            assert asking.hit.saved_usd == COST
            return asking.status, asking.hit.completion()["choices"][0]["message"]["content"]
        await asking.keep(answer(said), cost_usd=COST)
        return asking.status, said


async def test_off_by_default() -> None:
    cache = Cache(CacheSettings())
    assert [await through(cache, ask()) for _ in range(2)] == [("off", "Paris")] * 2


async def test_an_equal_request_is_answered_once() -> None:
    cache = Cache(CacheSettings(exact=True))
    assert await through(cache, ask(seed=1)) == ("miss", "Paris")
    assert await through(cache, ask(seed=1), said="Lyon") == ("exact", "Paris")
    assert await through(cache, ask(seed=2), said="Lyon") == ("miss", "Lyon")


async def test_each_key_has_its_own_answers_unless_they_are_shared() -> None:
    for shared, expected in ((False, "miss"), (True, "exact")):
        cache = Cache(CacheSettings(exact=True, semantic=True, shared_between_keys=shared))
        await through(cache, ask(scope=cache.scope("key:1")))
        status, _ = await through(cache, ask(scope=cache.scope("key:2")))
        assert status == expected
        status, _ = await through(cache, ask("what's the capital of France", scope=cache.scope("key:3")))
        assert status == ("semantic" if shared else "miss")


async def test_a_hit_is_a_copy() -> None:
    cache = Cache(CacheSettings(exact=True))
    await through(cache, ask())
    async with cache.asking(ask()) as asking:
        asking.hit.completion()["choices"].clear()
    assert await through(cache, ask()) == ("exact", "Paris")


@pytest.mark.parametrize(
    ("kept", "degraded"), [(answer(finish="length"), None), (answer(""), None), (answer(), "deadline")]
)
async def test_what_is_not_whole_is_not_kept(kept: dict[str, Any], degraded: str | None) -> None:
    cache = Cache(CacheSettings(exact=True, semantic=True, coalesce=True))
    async with cache.asking(ask()) as asking:
        assert await asking.keep(kept, cost_usd=COST, degraded=degraded) is False
    assert (await through(cache, ask()))[0] == "miss"


async def test_an_error_in_the_block_goes_up_and_keeps_nothing() -> None:
    cache = Cache(CacheSettings(exact=True, coalesce=True))
    with pytest.raises(ZeroDivisionError):
        async with cache.asking(ask()):
            raise ZeroDivisionError
    assert (await through(cache, ask()))[0] == "miss"


async def test_control() -> None:
    now = [100.0]
    cache = Cache(CacheSettings(exact=True), clock=lambda: now[0])
    assert (await through(cache, ask(), CacheControl(no_store=True)))[0] == "miss"
    assert (await through(cache, ask()))[0] == "miss"
    assert await through(cache, ask(), CacheControl(no_cache=True), said="Lutetia") == ("miss", "Lutetia")
    assert await through(cache, ask()) == ("exact", "Lutetia")
    now[0] = 110.0
    assert (await through(cache, ask(), CacheControl(max_age_s=10)))[0] == "exact"
    assert (await through(cache, ask(), CacheControl(use=False)))[0] == "bypass"
    assert await through(cache, ask(), CacheControl(max_age_s=9), said="new") == ("miss", "new")
    assert await through(cache, ask(temperature=1)) == ("bypass", "Paris")
    assert (await through(cache, ask(temperature=1), CacheControl(use=True)))[0] == "miss"
    assert (await through(cache, ask(temperature=1), CacheControl(use=True)))[0] == "exact"


async def test_another_wording_is_found_and_shared_through_the_store() -> None:
    store = MemoryStore(100, 10_000)
    settings = CacheSettings(semantic=True, store="state")
    one, other = Cache(settings, store), Cache(settings, store)
    await through(one, ask())
    assert await through(other, ask("what's the capital of France, please?")) == ("semantic", "Paris")
    assert (await through(other, ask("what's the capital of Spain")))[0] == "miss"


@pytest.mark.parametrize("kind", [MemoryState, SqliteState])
async def test_replicas_share_answers_through_the_state(kind: type, tmp_path: Path) -> None:
    def state() -> MemoryState | SqliteState:
        return MemoryState() if kind is MemoryState else SqliteState(tmp_path / "state.sqlite")

    settings = CacheSettings(exact=True, semantic=True, store="state")
    first = state()
    second = first if kind is MemoryState else state()
    await through(Cache(settings, first), ask())
    assert await through(Cache(settings, second), ask()) == ("exact", "Paris")
    assert await through(Cache(settings, second), ask("what's the capital of France")) == (
        "semantic",
        "Paris",
    )
    assert (await through(Cache(settings, second), ask(scope="key:2")))[0] == "miss"
    for each in {first, second}:
        await each.aclose()


async def test_semantic_never_with_tools_or_another_system_prompt_or_parameter() -> None:
    cache = Cache(CacheSettings(semantic=True))
    await through(cache, ask())
    tools = [{"type": "function", "function": {"name": "f"}}]
    variant = "what's the capital of France"
    assert (await through(cache, ask(variant, tools=tools)))[0] == "miss"
    assert (await through(cache, ask(variant, tools=tools)))[0] == "miss", "nor is it stored"
    assert (await through(cache, ask(variant, seed=1)))[0] == "miss"
    briefed = Question("key:1", "xrouter", ask(variant).request.with_system_prompt("Be brief."))
    assert (await through(cache, briefed))[0] == "miss"
    assert (await through(cache, ask(variant)))[0] == "semantic"


def everything_is_alike(text: str) -> list[float]:
    return [1.0, 0.0]


async def test_an_embedding_finds_other_words_but_never_other_numbers() -> None:
    cache = Cache(CacheSettings(semantic=True), embed=everything_is_alike)
    await through(cache, ask("What is 15% of 80?"))
    assert (await through(cache, ask("How much is 15% of 80?")))[0] == "semantic"
    for other in ("What is 15% of 90?", "What is 80% of 15?", "What is not 15% of 80?"):
        assert (await through(cache, ask(other)))[0] == "miss"


async def test_the_threshold_counts() -> None:
    async def embed(text: str) -> list[float]:
        return [1.0, 0.3 if "Which" in text else 0.0]

    for threshold, status in ((0.95, "semantic"), (0.97, "miss")):
        cache = Cache(CacheSettings(semantic=True, threshold=threshold), embed=embed)
        await through(cache, ask())
        async with cache.asking(ask("Which city is the capital of France?")) as asking:
            assert asking.status == status
            if asking.hit:
                assert asking.hit.similarity == pytest.approx(0.9578, abs=1e-3)


async def test_a_failing_embedding_costs_the_hit_only(caplog: pytest.LogCaptureFixture) -> None:
    def embed(text: str) -> list[float]:
        raise ValueError(text)

    cache = Cache(CacheSettings(exact=True, semantic=True), embed=embed)
    assert (await through(cache, ask()))[0] == "miss"
    assert (await through(cache, ask()))[0] == "exact"
    assert "ValueError" in caplog.text
    assert "France" not in caplog.text


async def test_an_evicted_entry_is_no_hit() -> None:
    cache = Cache(CacheSettings(semantic=True, max_entries=2), embed=everything_is_alike)
    await through(cache, ask("What is the capital of France?"))
    await through(cache, ask("Who wrote Hamlet?"))
    assert (await through(cache, ask("Which city is the capital of France?")))[0] == "miss"


class Unreachable:
    async def get(self, key: str) -> bytes | None:
        raise StateError("redis is gone")

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        raise StateError("redis is gone")

    async def delete(self, key: str) -> None:
        raise StateError("redis is gone")


async def test_a_store_that_is_gone_costs_hits_not_answers(caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(CacheSettings(exact=True, semantic=True, store="state"), Unreachable())
    assert [await through(cache, ask()) for _ in range(2)] == [("miss", "Paris")] * 2
    assert "redis is gone" in caplog.text


async def test_damaged_bytes_are_a_miss_and_are_replaced() -> None:
    store = MemoryStore(100, 10_000)
    cache = Cache(CacheSettings(exact=True, store="state"), store)
    await store.put(f"cache:{ask().key()}", b"garbage", ttl_s=60)
    assert (await through(cache, ask()))[0] == "miss"
    assert (await through(cache, ask()))[0] == "exact"


def test_an_embedding_that_cannot_be_loaded_names_its_setting() -> None:
    for path in (
        "nowhere:embed",
        "xrouter.caching.cache:nothing",
        "no path",
        "xrouter.caching.cache:STATUSES",
    ):
        with pytest.raises(ConfigurationError, match=r"cache\.embedding"):
            Cache(CacheSettings(semantic=True, embedding=path))


def test_a_shared_store_needs_a_state() -> None:
    with pytest.raises(ConfigurationError, match=r"cache\.store"):
        Cache(CacheSettings(exact=True, store="state"))


class TestCoalescing:
    def cache(self, **settings: Any) -> Cache:
        return Cache(CacheSettings(coalesce=True, **settings))

    async def test_equal_requests_under_way_wait_for_the_first(self) -> None:
        cache, calls = self.cache(), 0

        async def one() -> str:
            nonlocal calls
            async with cache.asking(ask()) as asking:
                if asking.hit is None:
                    calls += 1
                    await asyncio.sleep(0.02)
                    await asking.keep(answer(), cost_usd=COST)
                return asking.status

        statuses = await asyncio.gather(*(one() for _ in range(10)))
        assert sorted(statuses) == ["coalesced"] * 9 + ["miss"]
        assert calls == 1
        assert await one() == "miss", "an answer is kept only where a cache is on"

    async def test_others_do_not_wait(self) -> None:
        cache = self.cache()
        async with cache.asking(ask()), asyncio.timeout(1):
            for question, control in (
                (ask("Another?"), CacheControl()),
                (ask(scope="key:2"), CacheControl()),
                (ask(), CacheControl(no_cache=True)),
                (ask(), CacheControl(no_store=True)),
                (ask(temperature=1), CacheControl()),
            ):
                assert (await through(cache, question, control))[0] in ("miss", "bypass")

    async def test_a_leader_that_is_cancelled_makes_way(self) -> None:
        cache, started, asked = self.cache(), asyncio.Event(), []

        async def leader() -> None:
            async with cache.asking(ask()):
                started.set()
                await asyncio.sleep(60)

        async def follower(n: int) -> str:
            async with cache.asking(ask()) as asking:
                if asking.hit is None:
                    asked.append(n)
                    await asyncio.sleep(0.01)
                    await asking.keep(answer(), cost_usd=COST)
                return asking.status

        first = asyncio.create_task(leader())
        await started.wait()
        others = [asyncio.create_task(follower(n)) for n in range(4)]
        await asyncio.sleep(0)
        first.cancel()
        async with asyncio.timeout(2):
            statuses = await asyncio.gather(*others)
        assert sorted(statuses) == ["coalesced"] * 3 + ["miss"]
        assert len(asked) == 1
        assert first.cancelled()

    async def test_a_follower_that_is_cancelled_leaves_the_others_alone(self) -> None:
        cache = self.cache()
        async with cache.asking(ask()) as asking:
            tasks = [asyncio.create_task(through(cache, ask())) for _ in range(3)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            await asyncio.sleep(0)
            await asking.keep(answer(), cost_usd=COST)
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[0] == results[2] == ("coalesced", "Paris")
        assert isinstance(results[1], asyncio.CancelledError)

    @pytest.mark.parametrize("truncated", [True, False])
    async def test_without_an_answer_to_share_all_ask_at_once(self, truncated: bool) -> None:
        cache, under_way, most = self.cache(), 0, 0

        async def follower() -> str:
            nonlocal under_way, most
            async with cache.asking(ask()) as asking:
                if asking.hit is None:
                    under_way += 1
                    most = max(most, under_way)
                    await asyncio.sleep(0.02)
                    under_way -= 1
                return asking.status

        async def leader() -> None:
            async with cache.asking(ask()) as asking:
                await asyncio.sleep(0.01)
                if truncated:
                    await asking.keep(answer(finish="length"), cost_usd=COST)
                else:
                    raise ZeroDivisionError

        first = asyncio.create_task(leader())
        await asyncio.sleep(0)
        statuses = await asyncio.gather(*(follower() for _ in range(5)))
        assert statuses == ["miss"] * 5
        assert most == 5
        await asyncio.gather(first, return_exceptions=True)
        assert len(cache._flights) == 0

    async def test_waiting_ends(self) -> None:
        cache = self.cache()
        async with cache.asking(ask()), asyncio.timeout(1), cache.asking(ask(), wait_s=0.01) as late:
            assert late.status == "miss"
            assert await late.keep(answer(), cost_usd=COST) is False, "no cache is on"

    async def test_followers_do_not_wait_for_the_store(self) -> None:
        class Slow(MemoryStore):
            async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
                await asyncio.sleep(60)

        cache = Cache(CacheSettings(exact=True, coalesce=True, store="state"), Slow(10, 10_000))

        async def leader() -> None:
            async with cache.asking(ask()) as asking:
                await asyncio.sleep(0.01)
                await asking.keep(answer(), cost_usd=COST)

        first = asyncio.create_task(leader())
        await asyncio.sleep(0)
        async with asyncio.timeout(1):
            assert (await through(cache, ask()))[0] == "coalesced"
        first.cancel()
