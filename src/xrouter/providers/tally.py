"""What a stream has cost so far: as reported, or estimated from its text where nothing was reported. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

import orjson

from ..messages import Request, Usage
from .usage import BYTES_PER_TOKEN, estimate_prompt_tokens


class Tally:
    """Shown every piece; keeps counts, no text. Its estimate is that of `usage.estimate_usage` over the whole text."""

    __slots__ = ("_reasoning", "_request", "_text", "_tools", "reported")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._text = self._reasoning = self._tools = 0
        self.reported: Usage | None = None
        """What the upstream said, at the last."""

    def usage(self) -> Usage:
        """The counts reported, or an estimate that says so."""
        if self.reported is not None:
            return self.reported
        reasoning = ceil(self._reasoning / BYTES_PER_TOKEN)
        completion = ceil(self._text / BYTES_PER_TOKEN) + reasoning
        if self._tools:
            completion += ceil((self._tools + 1) / BYTES_PER_TOKEN)  # the bracket that opens the list
        return Usage(estimate_prompt_tokens(self._request), completion, 0, reasoning, estimated=True)

    def add(self, data: Mapping[str, Any], usage: Usage | None) -> bool:
        """One chat.completion.chunk object and the usage in it; whether it names a finish_reason."""
        if usage is not None:
            self.reported = usage
        choices = data.get("choices")
        finished = False
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            if choice.get("finish_reason"):
                finished = True
            delta = choice.get("delta")
            if self.reported is None and isinstance(delta, dict):
                self._count(delta)
        return finished

    def add_text(self, text: str) -> None:
        """More text of the answer, and nothing else."""
        if self.reported is None:
            self._text += _bytes_of(text)

    def _count(self, delta: Mapping[str, Any]) -> None:
        text = delta.get("content")
        if isinstance(text, str):
            self._text += _bytes_of(text)
        reasoning = delta.get("reasoning_content")
        if isinstance(reasoning, str):
            self._reasoning += _bytes_of(reasoning)
        calls = delta.get("tool_calls")
        if isinstance(calls, list):
            self._tools += sum(
                len(orjson.dumps(call)) + 1 for call in calls
            )  # with what follows it in the list


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
