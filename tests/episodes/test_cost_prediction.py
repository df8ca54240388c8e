"""Predictions of a call's cost."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from conftest import make_model

from xrouter.catalog.price import Price, Rates, Tier
from xrouter.episodes import cost
from xrouter.episodes.cost import (
    affordable_output_tokens,
    bound_prompt_tokens,
    estimate_prompt_tokens,
    estimate_tokens,
    predicted_cost,
)
from xrouter.messages import Request

HELLO = Request.from_text("x" * 400)


def test_tokens_of_a_text() -> None:
    assert [estimate_tokens(text) for text in ("", "abc", "abcd", "abcde", "你好", "ab 你好")] == [
        0,
        1,
        1,
        2,
        2,
        3,
    ]


def test_a_prompt_counts_messages_tools_and_images() -> None:
    assert estimate_prompt_tokens(HELLO) == 104
    tools = Request.from_text("x" * 400, tools=[{"type": "function", "function": {"name": "f" * 400}}])
    assert estimate_prompt_tokens(tools) > 200
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    low = {"type": "image_url", "image_url": {"url": "https://x.test/a.png", "detail": "low"}}
    text = {"type": "text", "text": "x" * 400}
    seen = Request.from_messages([{"role": "user", "content": [text, image, low]}])
    assert estimate_prompt_tokens(seen) == 104 + 1100 + 85
    assert bound_prompt_tokens(seen) >= 400 + 12_000


def test_the_bound_is_never_below_the_estimate() -> None:
    for request in (
        HELLO,
        Request.from_text(""),
        Request.from_text("你好" * 50),
        Request.from_text("\ud800"),
    ):
        assert bound_prompt_tokens(request) >= estimate_prompt_tokens(request)


def test_predicted_cost_worked_by_hand() -> None:
    model = make_model()
    assert predicted_cost(model, HELLO) == Decimal("0.000904")  # 104 x 1 + 400 x 2, per million
    assert predicted_cost(model, HELLO, 10) == Decimal("0.000124")
    assert predicted_cost(model, HELLO.with_params(max_tokens=5)) == Decimal("0.000114")
    assert predicted_cost(model, HELLO.with_params(n=3)) == Decimal("0.002504")


def test_affordable_output_worked_by_hand() -> None:
    model = make_model()
    prompt = Decimal(bound_prompt_tokens(HELLO))  # 1 USD a million
    assert affordable_output_tokens(model, HELLO, (prompt + 20) / 1_000_000) == 10
    assert affordable_output_tokens(model, HELLO, (prompt + 21) / 1_000_000) == 10
    assert affordable_output_tokens(model, HELLO, prompt / 1_000_000) == 0
    assert affordable_output_tokens(model, HELLO, (prompt - 1) / 1_000_000) == -1
    assert affordable_output_tokens(model, HELLO, Decimal(1)) == model.max_output_tokens
    assert affordable_output_tokens(model, HELLO.with_params(max_tokens=7), Decimal(1)) == 7
    assert affordable_output_tokens(model, HELLO.with_params(n=2), (prompt + 20) / 1_000_000) == 5


def test_the_worst_case_takes_the_dearest_tier_and_reasoning_rate() -> None:
    tiered = Price(
        Rates(Decimal(1), Decimal(2), reasoning=Decimal(8)),
        date(2026, 1, 1),
        "tests",
        (Tier(100, Rates(Decimal(3), Decimal(4))),),
    )
    model = make_model(price=tiered)
    prompt = 3 * Decimal(bound_prompt_tokens(HELLO))
    assert affordable_output_tokens(model, HELLO, (prompt + 80) / 1_000_000) == 10


def test_a_prompt_is_counted_once_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    contents = cost._contents
    monkeypatch.setattr(cost, "_contents", lambda request: counted.append(request) or contents(request))
    request = Request.from_text("What is 3 + 4?", tools=[{"type": "function", "function": {"name": "add"}}])
    expected, bound = cost.estimate_prompt_tokens(request), cost.bound_prompt_tokens(request)
    assert (cost.estimate_prompt_tokens(request), cost.bound_prompt_tokens(request)) == (expected, bound)
    assert len(counted) == 1
    longer = request.with_system_prompt("Think first. " * 10)
    assert cost.estimate_prompt_tokens(longer) > expected
    assert cost.estimate_prompt_tokens(request.with_params(tools=None)) < expected
    assert len(counted) == 3


def test_what_was_worked_out_is_no_part_of_a_request() -> None:
    one, other = Request.from_text("hello"), Request.from_text("hello")
    cost.estimate_prompt_tokens(one)
    assert one == other
    assert repr(one) == repr(other)
