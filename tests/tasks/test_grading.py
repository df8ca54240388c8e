"""Grading off the event loop, with graders that hang, fail or kill their process."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator

import pytest

from xrouter.errors import ConfigurationError, DataError
from xrouter.messages import Request
from xrouter.tasks import grading as module
from xrouter.tasks.grading import Grading
from xrouter.tasks.task import Task


@pytest.fixture
async def grading() -> AsyncIterator[Grading]:
    grading = Grading(time_limit_s=0.3, processes=1)
    yield grading
    await grading.aclose()


def task(grader: str, reference: str = "42") -> Task:
    name = grader if grader in ("numeric", "math") else f"grader_kit:{grader}"
    return Task("t", "kit", Request.from_text("Q?"), name, reference, {"key": [1]})


async def test_what_only_compares_is_graded_at_once(grading: Grading) -> None:
    assert await grading.grade(task("numeric"), "It is 42.") == 1.0
    assert await grading.grade(task("math"), "\\boxed{41}") == 0.0
    assert grading._idle.empty(), "no process was started"


async def test_a_users_grader_runs_in_a_process_and_may_print(grading: Grading) -> None:
    assert await grading.grade(task("prints"), "42") == 1.0
    assert await grading.grade(task("prints"), "\ud800 no") == 0.0
    assert await grading.grade(task("calls"), "", [{"id": "a"}]) == 0.25
    first = await grading.grade(task("process"), "")
    assert first == await grading.grade(task("process"), "") != 1.0 / os.getpid()


async def test_an_answer_that_cannot_be_judged_in_time_is_worth_nothing_and_holds_nobody_up(
    grading: Grading, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert await grading.grade(task("hangs_on_long"), "short") == 1.0
    started = time.monotonic()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    assert await grading.grade(task("hangs_on_long"), "long") == 0.0
    ticking.cancel()
    assert time.monotonic() - started < 5
    assert ticks > 5, "the loop went on meanwhile"
    assert "gave up on an answer to task t: no verdict within 0.3 s" in caplog.text
    assert await grading.grade(task("hangs_on_long"), "short") == 1.0


async def test_an_answer_too_deep_is_worth_nothing(
    grading: Grading, caplog: pytest.LogCaptureFixture
) -> None:
    assert await grading.grade(task("deep"), "x") == 0.0
    assert "RecursionError" in caplog.text


async def test_a_grader_that_fails_is_an_error_that_keeps_the_answer_to_itself(grading: Grading) -> None:
    with pytest.raises(DataError, match=r"'grader_kit:fails' failed on task t: ZeroDivisionError$"):
        await grading.grade(task("fails"), "the answer")
    with pytest.raises(ConfigurationError, match="nothing_there"):
        await grading.grade(task("nothing_there"), "x")
    assert await grading.grade(task("calls"), "", [{}, {}]) == 0.5, "the process lives on"


@pytest.mark.parametrize("score", ["nan", "1.5", "-0.1"])
async def test_a_score_that_is_none_is_an_error(grading: Grading, score: str) -> None:
    with pytest.raises(DataError, match=f"gave {score} on task t: it must be a number from 0 to 1"):
        await grading.grade(task("beyond"), score)
    assert await grading.grade(task("beyond"), "0.5") == 0.5


async def test_a_grader_that_kills_its_process_is_replaced(grading: Grading) -> None:
    assert await grading.grade(task("calls"), "", [{}]) == 0.25
    assert await grading.grade(task("dies"), "x") == 0.0
    assert await grading.grade(task("calls"), "", [{}]) == 0.25


async def test_a_process_that_does_not_start_says_so(
    grading: Grading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "__package__", "no_such_package")
    with pytest.raises(ConfigurationError, match="could not be started"):
        await grading.grade(task("calls"), "x")


async def test_several_at_a_time() -> None:
    grading = Grading(processes=2)
    scores = await asyncio.gather(*(grading.grade(task("process"), "") for _ in range(6)))
    assert len(set(scores)) <= 2
    await grading.aclose()


async def test_math_verify_is_asked_in_a_process(grading: Grading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "math_verify_installed", lambda: True)
    monkeypatch.setattr(Grading, "_ask", lambda self, one, text, tool_calls: 0.75)
    assert await grading.grade(task("math"), "\\boxed{42}") == 0.75
    assert "math_verify" not in sys.modules
