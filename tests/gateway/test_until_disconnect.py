"""Work that goes on as long as its client is there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from xrouter.errors import RequestError
from xrouter.gateway.asgi import ClientDisconnected, until_disconnect


class Client:
    """`receive` of a client that hangs up when told to."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def __call__(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}


async def test_work_is_done_in_the_task_that_asked() -> None:
    task = asyncio.current_task()
    seen = []

    async def work() -> None:
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    before = asyncio.all_tasks()
    await until_disconnect(work(), Client())
    await asyncio.sleep(0)
    assert seen == [task]
    assert asyncio.all_tasks() == before


async def test_hanging_up_ends_the_work_and_not_the_task() -> None:
    client = Client()
    cleaned = []

    async def work() -> None:
        try:
            client.gone.set()
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0)  # such as booking what was spent
            cleaned.append(True)

    with pytest.raises(ClientDisconnected):
        await until_disconnect(work(), client)
    assert cleaned == [True]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_an_error_of_the_work_goes_on() -> None:
    async def work() -> None:
        raise RequestError("no", param="x")

    with pytest.raises(RequestError):
        await until_disconnect(work(), Client())


async def test_an_error_while_a_client_leaves_goes_on() -> None:
    client = Client()

    async def work() -> None:
        try:
            client.gone.set()
            await asyncio.sleep(10)
        finally:
            raise RequestError("booking failed")

    with pytest.raises(RequestError):
        await until_disconnect(work(), client)


async def test_whoever_else_cancels_means_the_task() -> None:
    async def work() -> None:
        await asyncio.sleep(10)

    task = asyncio.create_task(until_disconnect(work(), Client()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_both_at_once_is_a_cancellation() -> None:
    client = Client()
    started = asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0)

    task = asyncio.create_task(until_disconnect(work(), client))
    await started.wait()
    client.gone.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
