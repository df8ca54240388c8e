"""What a stream has said so far: chunks in, a completion out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..messages import Chunk, Completion, Request, Usage
from ..providers.usage import estimate_usage


class Transcript:
    """Reads the first choice of a stream; of the others it counts the text. `begun`: a chunk came."""

    def __init__(self, request: Request) -> None:
        self.begun = False
        self._request = request
        self._texts: dict[str, list[str]] = {}
        self._tool_calls: dict[int, dict[str, Any]] = {}
        self._other_choices: list[str] = []
        self._usage: Usage | None = None
        self._finish_reason: str | None = None
        self._served_model: str | None = None

    def read(self, chunk: Chunk) -> None:
        self.begun = True
        data = chunk.data
        if chunk.usage is not None:
            self._usage = chunk.usage
        self._served_model = self._served_model or data.get("model")
        for choice in data.get("choices") or ():
            if not isinstance(choice, Mapping):
                continue
            delta = choice.get("delta")
            first = not choice.get("index")
            if first:
                self._finish_reason = choice.get("finish_reason") or self._finish_reason
            if isinstance(delta, Mapping):
                self._read_delta(delta, first=first)

    def _read_delta(self, delta: Mapping[str, Any], *, first: bool) -> None:
        for name in ("content", "reasoning_content", "refusal"):
            piece = delta.get(name)
            if isinstance(piece, str) and piece:
                (self._texts.setdefault(name, []) if first else self._other_choices).append(piece)
        for piece in delta.get("tool_calls") or ():
            if isinstance(piece, Mapping):
                self._read_tool_call(piece, first=first)

    def _read_tool_call(self, piece: Mapping[str, Any], *, first: bool) -> None:
        function = piece.get("function") or {}
        arguments = function.get("arguments") or ""
        if not first:
            self._other_choices.append(arguments)
            return
        call = self._tool_calls.setdefault(
            piece.get("index") or 0,
            {"id": None, "type": "function", "function": {"name": None, "arguments": ""}},
        )
        call["id"] = call["id"] or piece.get("id")
        call["function"]["name"] = call["function"]["name"] or function.get("name")
        call["function"]["arguments"] += arguments

    @property
    def usage(self) -> Usage:
        """As reported, or judged by the text of every choice."""
        if self._usage is not None:
            return self._usage
        message = self.message
        said = [message.get(name) or "" for name in ("content", "reasoning_content", "refusal")]
        said += [call["function"]["arguments"] for call in self._tool_calls.values()] + self._other_choices
        return estimate_usage(self._request, {"content": "".join(said)})

    @property
    def message(self) -> dict[str, Any]:
        """The assistant message in OpenAI's shape."""
        message: dict[str, Any] = {"role": "assistant", "content": None}
        message |= {name: "".join(pieces) for name, pieces in self._texts.items()}
        if self._tool_calls:
            message["tool_calls"] = [call for _, call in sorted(self._tool_calls.items())]
        return message

    def completion(self, latency_s: float) -> Completion:
        return Completion(
            self.message, self.usage, self._finish_reason or "stop", self._served_model, latency_s=latency_s
        )
