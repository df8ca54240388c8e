"""A sampled text as the completion that a server would hand over."""

from __future__ import annotations

import json

from ...episodes.function_calls import tagged_calls
from ...messages import Completion, Message, Request, Usage

_TAG = "<tool_call>"


def completion_of(text: str, request: Request, usage: Usage, *, cut: bool) -> Completion:
    """With `tool_calls` where the request offers tools and the text calls some, as servers with a Hermes parser do.

    cut: the reply ended at a limit.
    """
    calls = tagged_calls(text) if request.params.get("tools") else []
    message: Message = {"role": "assistant", "content": text}
    if calls:
        message = {
            "role": "assistant",
            "content": text[: text.find(_TAG)].strip() or None,
            "tool_calls": [
                {
                    "id": f"sampled{len(request.messages):03}{number:02}",
                    "type": "function",
                    "function": {
                        "name": name,
                        "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments),
                    },
                }
                for number, (name, arguments) in enumerate(calls, start=1)
            ],
        }
    reason = "length" if cut else "tool_calls" if calls else "stop"
    return Completion(message, usage, reason)
