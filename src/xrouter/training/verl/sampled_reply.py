"""Tokens that were sampled -> the completion that a server with a tool-call parser would have sent."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from ...messages import Completion, Usage, arguments_text
from ...policies.router_message import made_id

_BLOCK = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_OPENING = "<tool_call>"

NamedCall = tuple[str, str]
"""Name and arguments as JSON text."""


def hermes_calls(text: str) -> tuple[str, list[NamedCall]]:
    """(text before the calls, calls) of Hermes tool calls; all of it stays text where any call cannot be read.

    As strict as servers' parsers (SGLang's `qwen25`, vLLM's `hermes`): what they leave in the text is counted as a fault of
    the router's when it serves, and so it must be here.
    """
    calls: list[NamedCall] = []
    for block in _BLOCK.findall(text):
        try:
            value = json.loads(block)
            calls.append((str(value["name"]), json.dumps(value["arguments"], ensure_ascii=False)))
        except (ValueError, TypeError, KeyError, RecursionError):
            return text, []
    if not calls or text.count(_OPENING) != len(calls):
        return text, []
    return text[: text.index(_OPENING)].strip(), calls


def completion_of(
    text: str, calls: Sequence[NamedCall], usage: Usage, *, turn: int, cut: bool = False
) -> Completion:
    """turn: from 1; ids of calls are made from it. cut: sampling ended at the token limit, not by itself."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {
                "id": made_id(turn, i),
                "type": "function",
                "function": {"name": name, "arguments": arguments_text(arguments)},
            }
            for i, (name, arguments) in enumerate(calls, start=1)
        ]
    return Completion(message, usage, "length" if cut else "tool_calls" if calls else "stop")
