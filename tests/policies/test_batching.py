from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from xrouter.policies.batching import ENOUGH, Batching


class Doubling:
    """Doubles numbers; `batches` keeps what was asked together. A negative number fails."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.ask = Batching(self.answer_all, lambda asked: asked % 2)

    def answer_all(self, asked: Sequence[int]) -> list[int]:
        self.batches.append(list(asked))
        if min(asked) < 0:
            raise ValueError(f"{min(asked)} is negative")
        return [2 * number for number in asked]


async def test_what_waits_together_is_answered_together_kind_by_kind() -> None:
    doubling = Doubling()
    assert await asyncio.gather(*map(doubling.ask, [2, 3, 4, 5, 8])) == [4, 6, 8, 10, 16]
    assert doubling.batches == [[2, 4, 8], [3, 5]]


async def test_a_lone_request_waits_for_no_timer() -> None:
    doubling = Doubling()
    loop = asyncio.get_running_loop()
    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(count)

    loop.call_soon(count)
    assert await doubling.ask(4) == 8
    assert turns <= 3


async def test_several_wait_for_those_that_come_in_the_next_turns() -> None:
    doubling = Doubling()

    async def later(number: int, turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await doubling.ask(number)

    arrivals = [(2, 0), (4, 0), (6, 1), (8, 2), (10, 9)]
    await asyncio.gather(*(later(number, turns) for number, turns in arrivals))
    assert doubling.batches == [[2, 4, 6, 8], [10]]


async def test_a_batch_does_not_wait_without_end() -> None:
    doubling = Doubling()
    tasks: list[asyncio.Task[int]] = []
    for number in range(0, 6 * ENOUGH, 2):
        tasks.append(asyncio.create_task(doubling.ask(number)))
        if number % 4:  # two a turn
            await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert max(map(len, doubling.batches)) == ENOUGH


async def test_one_batch_after_another() -> None:
    doubling = Doubling()
    for number in (2, 4, 6):
        assert await doubling.ask(number) == 2 * number
    assert doubling.batches == [[2], [4], [6]]


async def test_an_error_harms_only_the_one_it_is_about() -> None:
    doubling = Doubling()
    answers = await asyncio.gather(*map(doubling.ask, [2, -4, 6, 3]), return_exceptions=True)
    assert isinstance(answers[1], ValueError)
    assert str(answers[1]) == "-4 is negative"
    assert [answers[0], *answers[2:]] == [4, 12, 6]


async def test_who_gives_up_is_left_out_and_harms_nobody() -> None:
    doubling = Doubling()
    tasks = [asyncio.create_task(doubling.ask(number)) for number in (2, 4, 6)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    assert await asyncio.gather(*tasks[::2]) == [4, 12]
    assert tasks[1].cancelled()
    assert doubling.batches == [[2, 6]]


async def test_when_all_give_up_nothing_is_asked() -> None:
    doubling = Doubling()
    task = asyncio.create_task(doubling.ask(2))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert doubling.batches == []
    assert await doubling.ask(4) == 8


def test_loops_one_after_another_and_on_several_threads() -> None:
    doubling = Doubling()

    async def abandoned() -> None:
        asyncio.get_running_loop().create_task(doubling.ask(2))
        await asyncio.sleep(0)

    async def several() -> list[int]:
        return await asyncio.gather(*map(doubling.ask, range(0, 20, 2)))

    asyncio.run(abandoned())
    found: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found.append(asyncio.run(several()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.append(asyncio.run(several()))
    assert found == [list(range(0, 40, 4))] * 5
    assert [batch for batch in doubling.batches if len(batch) > 1] == [list(range(0, 20, 2))] * 5
