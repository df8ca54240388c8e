"""What a stream has cost so far: as reported, or estimated from its text where nothing was reported. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

import orjson

from ..errors import ProviderResponseError
from ..messages import Block, Request, Usage
from .usage import BYTES_PER_TOKEN, estimate_prompt_tokens

MAX_KEPT_BYTES = 32 * 1024


class Tally:
    """Shown every block, parses none of them until an estimate is asked for.

    At most MAX_KEPT_BYTES are kept; a longer stream is parsed and counted piece by piece. Estimates are those of
    `usage.estimate_usage` over the whole text.
    """

    __slots__ = ("_kept", "_kept_bytes", "_reasoning", "_request", "_text", "_tools", "_usage")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._usage: Usage | None = None
        self._kept: list[Block] = []
        self._kept_bytes = 0
        self._text = self._reasoning = self._tools = 0

    @property
    def reported(self) -> Usage | None:
        """What the upstream said."""
        return self._usage

    def add(self, block: Block) -> None:
        if block.usage is not None:
            self._usage = block.usage
            self._kept.clear()
        if self._usage is not None:
            return
        self._kept.append(block)
        self._kept_bytes += len(block.raw)
        if self._kept_bytes > MAX_KEPT_BYTES:
            self._fold()

    def usage(self) -> Usage:
        """The counts reported, or an estimate that says so."""
        if self._usage is not None:
            return self._usage
        self._fold()
        reasoning = ceil(self._reasoning / BYTES_PER_TOKEN)
        completion = ceil(self._text / BYTES_PER_TOKEN) + reasoning
        if self._tools:
            completion += ceil((self._tools + 1) / BYTES_PER_TOKEN)
        return Usage(estimate_prompt_tokens(self._request), completion, 0, reasoning, estimated=True)

    def _fold(self) -> None:
        for block in self._kept:
            for chunk in block.chunks:
                try:
                    choices = chunk.data.get("choices")
                except ProviderResponseError:
                    continue  # what cannot be read holds no text that could be counted
                for choice in choices if isinstance(choices, list) else ():
                    delta = choice.get("delta") if isinstance(choice, Mapping) else None
                    if isinstance(delta, Mapping):
                        self._count(delta)
        self._kept.clear()
        self._kept_bytes = 0

    def _count(self, delta: Mapping[str, object]) -> None:
        text, reasoning, calls = (delta.get(name) for name in ("content", "reasoning_content", "tool_calls"))
        if isinstance(text, str):
            self._text += len(text.encode("utf-8", "replace"))
        if isinstance(reasoning, str):
            self._reasoning += len(reasoning.encode("utf-8", "replace"))
        if isinstance(calls, list):
            self._tools += sum(len(orjson.dumps(call)) + 1 for call in calls)  # with its comma
