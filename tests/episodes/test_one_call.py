"""A single call is made without a task of its own: it ends in every way as one among several does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from episode_kit import QUESTION, completion, scripted

from xrouter.episodes.calls import PlannedCall, ask_all
from xrouter.episodes.cost import predicted_cost
from xrouter.episodes.episode import Response
from xrouter.errors import ProviderRateLimitError

SCRIPT = {"a": completion("4"), "b": completion("4")}


async def responses(
    names: str, script: dict[str, Any], *, delay_s: float = 0.0, **more: Any
) -> list[Response]:
    """What comes of asking these models at once; with `cancel_after_s`, of being cancelled meanwhile."""
    pool, _ = scripted(script, delay_s)
    calls = [
        PlannedCall(f"c{i}", pool[name], QUESTION, predicted_cost(pool[name], QUESTION))
        for i, name in enumerate(names, start=1)
    ]
    found: list[Response] = []
    asking = asyncio.create_task(ask_all(calls, pool, 1, more.get("time_left_s"), found))
    if "cancel_after_s" in more:
        await asyncio.sleep(more["cancel_after_s"])
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    await asyncio.wait({asking})
    return found


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"time_left_s": 5.0},
        {"delay_s": 5.0, "time_left_s": 0.02},
        {"delay_s": 5.0, "cancel_after_s": 0.02},
        {"script": {"a": ProviderRateLimitError("slow down", model="a"), "b": completion("4")}},
        {"script": {"a": ValueError("outside the contract"), "b": completion("4")}},
    ],
    ids=["answered", "in time", "too late", "cancelled", "refused", "broken"],
)
async def test_alone_and_in_company(case: dict[str, Any]) -> None:
    more = {"script": SCRIPT, **case}
    (alone,) = await responses("a", **more)
    company = await responses("ab", **more)
    for response in (alone, company[0]):
        assert 0 <= response.latency_s < 1
    told = [replace(response, latency_s=0.0, error=None) for response in (alone, company[0])]
    assert told[0] == told[1]
    assert type(alone.fault) is type(company[0].fault)
    assert (alone.error is None) == (company[0].error is None)
