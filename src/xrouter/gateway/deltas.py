"""What a chat completion says, piece by piece: the same pieces from a whole answer and from any cut of it into chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..messages import Usage, arguments_text, text_of
from ..providers.usage import usage_of


@dataclass(frozen=True, slots=True)
class Text:
    """`logprobs` is OpenAI's list, one entry a token; None where there is none."""

    text: str
    logprobs: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Reasoning:
    text: str


@dataclass(frozen=True, slots=True)
class Refusal:
    text: str


@dataclass(frozen=True, slots=True)
class ToolPiece:
    """A piece of the `call`-th tool call (from 0). `id` and `name` come once, with any piece; arguments in parts."""

    call: int
    id: str
    name: str
    arguments: str


Delta = Text | Reasoning | Refusal | ToolPiece


class ChunkReader:
    """Reads the chunks of one stream; of several choices the first. What it has learned is in its fields."""

    def __init__(self) -> None:
        self.id = ""
        self.model = ""
        self.created: int | None = None
        self.finish_reason: str | None = None
        self.matched_stop: str | None = None
        """The stop sequence that ended the answer, where the upstream says so (vLLM and SGLang do)."""
        self.refused = False
        self.usage = Usage()
        self.xrouter: Mapping[str, Any] | None = None
        self._calls: list[tuple[int, str]] = []

    def read(self, chunk: Mapping[str, Any]) -> list[Delta]:
        self._note(chunk)
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) == 0:
                self._note_end(choice)
                return [*self._deltas(choice.get("delta") or {}, choice.get("logprobs"))]
        return []

    def read_whole(self, completion: Mapping[str, Any]) -> list[Delta]:
        """All of a chat.completion object at once."""
        self._note(completion)
        choice = completion["choices"][0]
        self._note_end(choice)
        return [*self._deltas(choice["message"], choice.get("logprobs"))]

    def _note(self, data: Mapping[str, Any]) -> None:
        self.id = self.id or data.get("id") or ""
        self.model = self.model or data.get("model") or ""
        self.created = self.created or data.get("created")
        self.usage = usage_of(data.get("usage")) or self.usage
        self.xrouter = data.get("xrouter") or self.xrouter

    def _note_end(self, choice: Mapping[str, Any]) -> None:
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        matched = choice.get("stop_reason") or choice.get("matched_stop")
        self.matched_stop = matched if isinstance(matched, str) else self.matched_stop

    def _deltas(self, delta: Mapping[str, Any], logprobs: Mapping[str, Any] | None) -> Iterator[Delta]:
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(reasoning, str) and reasoning:
            yield Reasoning(reasoning)
        text, listed = text_of(delta.get("content")), (logprobs or {}).get("content")
        if text or listed:
            yield Text(text, listed)
        refusal = delta.get("refusal")
        if isinstance(refusal, str) and refusal:
            self.refused = True
            yield Refusal(refusal)
        for position, piece in enumerate(delta.get("tool_calls") or ()):
            function = piece.get("function") or {}
            yield ToolPiece(
                self._call(piece, position),
                piece.get("id") or "",
                function.get("name") or "",
                arguments_text(function.get("arguments")),
            )

    def _call(self, piece: Mapping[str, Any], position: int) -> int:
        """Which call the piece belongs to: the newest with its index.

        Some upstreams give all parallel calls the index 0, each whole and with an id of its own.
        """
        index, call_id = piece.get("index", position), piece.get("id") or ""
        for call in reversed(range(len(self._calls))):
            known_index, known_id = self._calls[call]
            if known_index == index:
                if not call_id or not known_id or call_id == known_id:
                    self._calls[call] = (index, known_id or call_id)
                    return call
                break
        self._calls.append((index, call_id))
        return len(self._calls) - 1


def id_with(prefix: str, completion_id: str) -> str:
    """The id of a chat completion as another API writes it: `msg_...`, `resp_...`."""
    return prefix + completion_id.removeprefix("chatcmpl-")
