"""The content blocks of a message as they grow, and the events that tell of it.

A message's blocks come one after another: the next starts when the one before it has stopped. Chat completions may
send pieces of several tool calls in turn. So one block at a time is told live; what belongs to a later one waits
until the arguments before it are whole JSON, which cannot grow any more, or until the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from ..deltas import Delta, Reasoning, ToolPiece

Event = dict[str, Any]


@dataclass(slots=True)
class _Block:
    kind: Literal["thinking", "text", "tool_use"]
    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    told: int = 0
    started: bool = False
    stopped: bool = False

    @property
    def joined(self) -> str:
        return "".join(self.pieces)

    @property
    def can_stop(self) -> bool:
        if self.kind != "tool_use":
            return True
        try:
            orjson.loads(self.joined)
        except orjson.JSONDecodeError:
            return False
        return True

    def empty(self) -> dict[str, Any]:
        if self.kind == "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
        if self.kind == "text":
            return {"type": "text", "text": ""}
        return {"type": "tool_use", "id": self.id, "name": self.name, "input": {}}

    def whole(self) -> dict[str, Any]:
        if self.kind == "tool_use":
            return {**self.empty(), "input": _input(self.joined)}
        return {**self.empty(), self.kind: self.joined}

    def untold(self) -> list[dict[str, Any]]:
        """The delta of what was not told yet, if there is anything."""
        piece = "".join(self.pieces[self.told :])
        self.told = len(self.pieces)
        if not piece:
            return []
        if self.kind == "tool_use":
            return [{"type": "input_json_delta", "partial_json": piece}]
        return [{"type": f"{self.kind}_delta", self.kind: piece}]


class Blocks:
    """thinking: whether the client is shown the model's reasoning."""

    def __init__(self, *, thinking: bool) -> None:
        self._thinking = thinking
        self._blocks: list[_Block] = []
        self._tools: dict[int, _Block] = {}
        self._live = 0

    def add(self, deltas: Iterable[Delta]) -> Iterator[Event]:
        for delta in deltas:
            if isinstance(delta, Reasoning) and not self._thinking:
                continue
            if isinstance(delta, ToolPiece):
                self._add_tool(delta)
            elif delta.text:
                self._add_text("thinking" if isinstance(delta, Reasoning) else "text", delta.text)
            yield from self._tell(ended=False)

    def end(self) -> Iterator[Event]:
        return self._tell(ended=True)

    def content(self) -> list[dict[str, Any]]:
        """Every block, whole. To be read at the end."""
        return [block.whole() for block in self._blocks]

    @property
    def calls_tools(self) -> bool:
        return bool(self._tools)

    def _add_text(self, kind: Literal["thinking", "text"], piece: str) -> None:
        if not self._blocks or self._blocks[-1].kind != kind:
            self._blocks.append(_Block(kind))
        self._blocks[-1].pieces.append(piece)

    def _add_tool(self, piece: ToolPiece) -> None:
        block = self._tools.get(piece.call)
        if block is None:
            block = self._tools[piece.call] = _Block("tool_use")
            self._blocks.append(block)
        elif block.stopped:
            return  # its arguments were whole: what comes after them can only be white space
        block.id = block.id or piece.id
        block.name = block.name or piece.name
        block.pieces.append(piece.arguments)

    def _tell(self, *, ended: bool) -> Iterator[Event]:
        while self._live < len(self._blocks):
            index, block = self._live, self._blocks[self._live]
            if not block.started:
                if block.kind == "tool_use" and not (block.id and block.name) and not ended:
                    return
                block.started = True
                block.id = block.id or f"toolu_{index}"
                yield {"type": "content_block_start", "index": index, "content_block": block.empty()}
            for delta in block.untold():
                yield {"type": "content_block_delta", "index": index, "delta": delta}
            waiting = index + 1 < len(self._blocks)
            if not ended and not (waiting and block.can_stop):
                return
            self._live += 1
            block.stopped = True
            yield {"type": "content_block_stop", "index": index}


def _input(arguments: str) -> dict[str, Any]:
    """The arguments as an object. What is none is wrapped as Anthropic advises, so that nothing is lost."""
    if not arguments.strip():
        return {}
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        value = None
    return value if isinstance(value, dict) else {"INVALID_JSON": arguments}
