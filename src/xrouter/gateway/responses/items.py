"""The output items of a response as they grow, and the events that tell of them.

An item is known by its place in the output, so several function calls may grow at once. What the model reasons and
says is over when something else begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..deltas import Delta, Reasoning, Text, ToolPiece

Event = dict[str, Any]


@dataclass(slots=True)
class _Part:
    """One part of a message's or a reasoning item's content. `kind` is its type."""

    kind: str
    pieces: list[str] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def event(self) -> str:
        return f"response.{self.kind}"

    @property
    def key(self) -> str:
        return "refusal" if self.kind == "refusal" else "text"

    def whole(self) -> dict[str, Any]:
        part: dict[str, Any] = {"type": self.kind, self.key: "".join(self.pieces)}
        if self.kind == "output_text":
            part |= {"annotations": [], "logprobs": list(self.logprobs)}
        return part


@dataclass(slots=True)
class _Item:
    kind: str
    id: str = ""
    index: int = -1
    call_id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    parts: list[_Part] = field(default_factory=list)
    status: str = "in_progress"

    def whole(self) -> dict[str, Any]:
        item: dict[str, Any] = {"type": self.kind, "id": self.id, "status": self.status}
        if self.kind == "function_call":
            return {**item, "call_id": self.call_id, "name": self.name, "arguments": "".join(self.arguments)}
        content = [part.whole() for part in self.parts]
        if self.kind == "message":
            return {**item, "role": "assistant", "content": content}
        return {**item, "summary": [], "content": content, "encrypted_content": None}


class Items:
    """stem: what the ids of the items are made of. logprobs: whether the client asked for them."""

    def __init__(self, stem: str, *, logprobs: bool) -> None:
        self._stem = stem
        self._logprobs = logprobs
        self._items: list[_Item] = []
        self._speaking: _Item | None = None
        self._calls: dict[int, _Item] = {}

    def add(self, deltas: Iterable[Delta]) -> Iterator[Event]:
        for delta in deltas:
            if isinstance(delta, ToolPiece):
                yield from self._call(delta)
            elif isinstance(delta, Reasoning):
                yield from self._say("reasoning", "reasoning_text", delta.text, ())
            elif isinstance(delta, Text):
                yield from self._say("message", "output_text", delta.text, delta.logprobs or ())
            else:
                yield from self._say("message", "refusal", delta.text, ())

    def end(self, status: str) -> Iterator[Event]:
        """Close what is open. `status`: "completed", or "incomplete" for what was cut off."""
        yield from self._hush(status)
        for call, item in self._calls.items():
            if item.index < 0:
                item.call_id = item.call_id or f"call_{self._stem}_{call}"
                yield from self._announce(item)
                yield from self._arguments(item, "".join(item.arguments))
            item.status = status
            yield {
                "type": "response.function_call_arguments.done",
                **self._place(item),
                "name": item.name,
                "arguments": "".join(item.arguments),
            }
            yield self._done(item)

    def output(self) -> list[dict[str, Any]]:
        return [item.whole() for item in self._items]

    def _call(self, piece: ToolPiece) -> Iterator[Event]:
        item = self._calls.get(piece.call)
        if item is None:
            yield from self._hush("completed")
            item = self._calls[piece.call] = _Item("function_call")
        item.call_id = item.call_id or piece.id
        item.name = item.name or piece.name
        item.arguments.append(piece.arguments)
        if item.index >= 0:
            yield from self._arguments(item, piece.arguments)
        elif item.name and item.call_id:
            yield from self._announce(item)
            yield from self._arguments(item, "".join(item.arguments))

    def _arguments(self, item: _Item, piece: str) -> Iterator[Event]:
        if piece:
            yield {"type": "response.function_call_arguments.delta", **self._place(item), "delta": piece}

    def _say(
        self, kind: str, part_kind: str, piece: str, logprobs: Sequence[Mapping[str, Any]]
    ) -> Iterator[Event]:
        item = self._speaking
        if item is None or item.kind != kind:
            yield from self._hush("completed")
            item = self._speaking = _Item(kind)
            yield from self._announce(item)
        if not item.parts or item.parts[-1].kind != part_kind:
            yield from self._close_part(item)
            item.parts.append(_Part(part_kind))
            part = item.parts[-1]
            yield {"type": "response.content_part.added", **self._part_place(item), "part": part.whole()}
        part = item.parts[-1]
        part.pieces.append(piece)
        event = {"type": f"{part.event}.delta", **self._part_place(item), "delta": piece}
        if part_kind == "output_text":
            listed = [_logprob(each) for each in logprobs] if self._logprobs else []
            part.logprobs += listed
            event["logprobs"] = listed
        yield event

    def _hush(self, status: str) -> Iterator[Event]:
        item, self._speaking = self._speaking, None
        if item is not None:
            yield from self._close_part(item)
            item.status = status
            yield self._done(item)

    def _close_part(self, item: _Item) -> Iterator[Event]:
        if not item.parts:
            return
        part, place = item.parts[-1], self._part_place(item)
        whole = part.whole()
        done = {"type": f"{part.event}.done", **place, part.key: whole[part.key]}
        yield done | ({"logprobs": whole["logprobs"]} if part.kind == "output_text" else {})
        yield {"type": "response.content_part.done", **place, "part": whole}

    def _announce(self, item: _Item) -> Iterator[Event]:
        item.index = len(self._items)
        item.id = f"{_PREFIXES[item.kind]}_{self._stem}_{item.index}"
        self._items.append(item)
        blank = item.whole()
        if item.kind == "function_call":
            blank["arguments"] = ""
        yield {"type": "response.output_item.added", "output_index": item.index, "item": blank}

    def _done(self, item: _Item) -> Event:
        return {"type": "response.output_item.done", "output_index": item.index, "item": item.whole()}

    def _place(self, item: _Item) -> dict[str, Any]:
        return {"item_id": item.id, "output_index": item.index}

    def _part_place(self, item: _Item) -> dict[str, Any]:
        return {**self._place(item), "content_index": len(item.parts) - 1}


def _logprob(entry: Mapping[str, Any]) -> dict[str, Any]:
    def of_token(token: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "token": token.get("token", ""),
            "bytes": token.get("bytes") or [],
            "logprob": token.get("logprob", 0.0),
        }

    return {**of_token(entry), "top_logprobs": [of_token(top) for top in entry.get("top_logprobs") or ()]}


_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc"}
