from __future__ import annotations

from typing import Any

import pytest

from xrouter.messages import Request, Usage
from xrouter.providers.usage import estimate_tokens, estimate_usage, usage_object, usage_of


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, Usage(3, 4)),
        ({"prompt_tokens": 3, "completion_tokens": 4}, Usage(3, 4)),
        (
            {
                "prompt_tokens": 30,
                "completion_tokens": 40,
                "prompt_tokens_details": {"cached_tokens": 20, "audio_tokens": None},
                "completion_tokens_details": {"reasoning_tokens": 25},
            },
            Usage(30, 40, 20, 25),
        ),
        (
            {"prompt_tokens": 30, "completion_tokens": 4, "prompt_cache_hit_tokens": 12},
            Usage(30, 4, 12),
        ),
        ({"prompt_tokens": 30, "completion_tokens": 4, "cached_tokens": 8}, Usage(30, 4, 8)),
        (
            {"prompt_tokens": 5, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 9}},
            Usage(5, 4, 5),
        ),
        ({"prompt_tokens": 5, "completion_tokens": 4, "prompt_tokens_details": None}, Usage(5, 4)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(0, 0)),
        # reasoning counted beside the completion: in the total alone, or with its own count
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 65}, Usage(10, 55, 0, 50)),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 65,
                "completion_tokens_details": {"reasoning_tokens": 50},
            },
            Usage(10, 55, 0, 50),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "completion_tokens_details": {"reasoning_tokens": 50},
            },
            Usage(10, 55, 0, 50),
        ),
    ],
)
def test_reported_usage(raw: dict[str, Any], expected: Usage) -> None:
    usage = usage_of(raw)
    assert usage == expected
    assert not expected.estimated
    assert usage_of(usage_object(expected)) == expected


@pytest.mark.parametrize(
    "raw",
    [
        None,
        {},
        [],
        "7",
        {"prompt_tokens": 3},
        {"prompt_tokens": None, "completion_tokens": 4},
        {"prompt_tokens": -1, "completion_tokens": 4},
        {"prompt_tokens": "3", "completion_tokens": 4},
        {"prompt_tokens": True, "completion_tokens": 4},
        {"prompt_tokens": float("nan"), "completion_tokens": 4},
        {"prompt_tokens": float("inf"), "completion_tokens": 4},
    ],
)
def test_unusable_usage_is_none(raw: object) -> None:
    assert usage_of(raw) is None


def test_estimates() -> None:
    assert estimate_tokens("") == 0
    assert estimate_tokens("x") == 1
    assert estimate_tokens("x" * 400) == 100
    assert estimate_tokens("漢字") == 2
    assert estimate_tokens("\ud800") == 1


def test_an_estimate_counts_tools_reasoning_and_tool_calls() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "x" * 400}}]
    plain = estimate_usage(Request.from_text("hi"), {"content": "hello"})
    assert plain.estimated
    assert estimate_usage(Request.from_text("hi", tools=tools), {"content": "hello"}).prompt_tokens > (
        plain.prompt_tokens + 100
    )
    thought = estimate_usage(Request.from_text("hi"), {"content": "hello", "reasoning_content": "x" * 40})
    assert thought.reasoning_tokens == 10
    assert thought.completion_tokens == plain.completion_tokens + 10
    call = {"function": {"name": "f", "arguments": "{}"}}
    assert (
        estimate_usage(Request.from_text("hi"), {"content": None, "tool_calls": [call]}).completion_tokens > 5
    )
