"""Sampled text as the completion of a server with a tool-call parser."""

from __future__ import annotations

import json

import pytest

from xrouter.messages import Usage
from xrouter.training.verl.sampled_reply import completion_of, hermes_calls

CALL = '<tool_call>\n{"name": "call_a", "arguments": {"temperature": 0.5}}\n</tool_call>'


def test_hermes_calls_are_read_and_words_before_them_kept() -> None:
    text, calls = hermes_calls(f"Let me see.\n{CALL}\n{CALL}")
    assert text == "Let me see."
    assert [(name, json.loads(arguments)) for name, arguments in calls] == [
        ("call_a", {"temperature": 0.5})
    ] * 2


@pytest.mark.parametrize(
    "text",
    [
        "42",
        "",
        "<tool_call>\n{'name': 'call_a', 'arguments': {}}\n</tool_call>",
        '<tool_call>\n{"name": "call_a"}\n</tool_call>',
        "<tool_call>\n[1]\n</tool_call>",
        f"{CALL}<tool_call>",
        f"{CALL}\n<tool_call>\nnothing\n</tool_call>",
        '<tool_call>\n{"name": "call_a", "arguments": {}}',
        "<tool_call>" + "[" * 100_000 + "</tool_call>",
    ],
)
def test_what_a_strict_parser_does_not_read_stays_text(text: str) -> None:
    assert hermes_calls(text) == (text, [])


def test_completion_is_in_openais_shape() -> None:
    text, calls = hermes_calls(CALL)
    completion = completion_of(text, calls, Usage(10, 5), turn=2)
    (call,) = completion.tool_calls
    assert call["function"] == {"name": "call_a", "arguments": '{"temperature": 0.5}'}
    assert call["id"] == "call02001"
    assert completion.finish_reason == "tool_calls"
    assert completion_of("so", [], Usage(), turn=1, cut=True).finish_reason == "length"
    assert completion_of("so", [], Usage(), turn=1).finish_reason == "stop"
