"""Waits with an end."""

from __future__ import annotations

import asyncio
import time

import pytest

from xrouter import deadlines
from xrouter.deadlines import within


async def waits(seconds: float, for_s: float) -> float:
    """Seconds until the time was up."""
    started = time.monotonic()
    with pytest.raises(TimeoutError), within(seconds) as deadline:
        await asyncio.sleep(for_s)
    assert deadline.expired()
    return time.monotonic() - started


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.05, 1.2])
async def test_time_runs_out_when_it_should(seconds: float) -> None:
    assert max(0, seconds) <= await waits(seconds, 10) < max(0, seconds) + 0.5


async def test_many_at_once_each_at_its_own_time() -> None:
    limits = [1.05 + n / 20 for n in range(20)]
    took = await asyncio.gather(*(waits(limit, 10) for limit in limits))
    assert all(limit <= seconds < limit + 0.3 for limit, seconds in zip(limits, took, strict=True))


@pytest.mark.parametrize("seconds", [None, 0.2, 5.0])
async def test_what_ends_in_time_is_left_alone(seconds: float | None) -> None:
    with within(seconds) as deadline:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3 if seconds == 0.2 else 0)
    assert not deadline.expired()


async def test_nothing_is_kept_of_those_that_ended_in_time() -> None:
    loop = asyncio.get_running_loop()
    deadline = within(30)
    with deadline:
        kept = deadlines._here.kept(loop, int(deadline.due))
        assert kept == {deadline}
    assert kept == set()


async def test_the_inner_of_two_runs_out_and_the_outer_goes_on() -> None:
    with within(5) as outer:
        with pytest.raises(TimeoutError), within(0.02):
            await asyncio.sleep(5)
        await asyncio.sleep(0)
    assert not outer.expired()


async def test_the_outer_of_two_runs_out_and_the_inner_does_not_take_it_for_its_own() -> None:
    with pytest.raises(TimeoutError), within(0.02) as outer, within(5) as inner:
        await asyncio.sleep(5)
    assert (outer.expired(), inner.expired()) == (True, False)


async def test_an_error_or_another_time_out_in_the_block_is_no_deadline() -> None:
    with pytest.raises(TimeoutError, match="mine"), within(5) as deadline:
        raise TimeoutError("mine")
    assert not deadline.expired()


async def test_who_is_cancelled_from_outside_stays_cancelled() -> None:
    async def work() -> None:
        with within(5):
            await asyncio.sleep(5)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_from_outside_in_the_moment_the_time_runs_out() -> None:
    started = asyncio.Event()

    async def work() -> None:
        with within(0.02):
            started.set()
            time.sleep(0.05)  # noqa: ASYNC251 - the deadline passes before anything is waited for
            await asyncio.sleep(5)

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises((asyncio.CancelledError, TimeoutError)) as caught:
        await task
    assert caught.type is asyncio.CancelledError


def test_a_new_loop_on_the_same_thread_begins_anew() -> None:
    for _ in range(2):
        assert 1.1 <= asyncio.run(waits(1.1, 5)) < 1.6


async def test_a_deadline_needs_a_task() -> None:
    failed: list[BaseException] = []

    def enter() -> None:
        try:
            with within(1):
                pass
        except RuntimeError as error:
            failed.append(error)

    asyncio.get_running_loop().call_soon(enter)
    await asyncio.sleep(0.01)
    assert len(failed) == 1
