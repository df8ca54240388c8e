"""What a stream has said so far: blocks in, a completion out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..messages import Block, Completion, Usage, arguments_text


class Transcript:
    """Reads the first choice of a stream. `begun`: a block came."""

    def __init__(self) -> None:
        self.begun = False
        self._texts: dict[str, list[str]] = {}
        self._tool_calls: dict[int, dict[str, Any]] = {}
        self._finish_reason: str | None = None
        self._served_model: str | None = None

    def read(self, block: Block) -> None:
        if self.begun and block.text is not None:
            if block.text:
                self._texts.setdefault("content", []).append(block.text)
            return
        if not self.begun:
            self.begun = True
            self._served_model = next((data["model"] for data, _ in block.pieces if data.get("model")), None)
        for data, _ in block.pieces:
            for choice in data.get("choices") or ():
                if isinstance(choice, dict) and not choice.get("index"):
                    self._finish_reason = choice.get("finish_reason") or self._finish_reason
                    delta = choice.get("delta")
                    if isinstance(delta, dict):
                        self._read_delta(delta)

    def _read_delta(self, delta: Mapping[str, Any]) -> None:
        for name in ("content", "reasoning_content", "refusal"):
            piece = delta.get(name)
            if isinstance(piece, str) and piece:
                self._texts.setdefault(name, []).append(piece)
        for piece in delta.get("tool_calls") or ():
            if isinstance(piece, Mapping):
                self._read_tool_call(piece)

    def _read_tool_call(self, piece: Mapping[str, Any]) -> None:
        function = piece.get("function") or {}
        call = self._tool_calls.setdefault(
            piece.get("index") or 0,
            {"id": None, "type": "function", "function": {"name": None, "arguments": ""}},
        )
        call["id"] = call["id"] or piece.get("id")
        call["function"]["name"] = call["function"]["name"] or function.get("name")
        call["function"]["arguments"] += arguments_text(function.get("arguments"))

    def completion(self, usage: Usage, latency_s: float, endpoint: str | None = None) -> Completion:
        """usage: of the whole stream."""
        message: dict[str, Any] = {"role": "assistant", "content": None}
        message |= {name: "".join(pieces) for name, pieces in self._texts.items()}
        if self._tool_calls:
            message["tool_calls"] = [call for _, call in sorted(self._tool_calls.items())]
        return Completion(
            message,
            usage,
            self._finish_reason or "stop",
            self._served_model,
            latency_s=latency_s,
            endpoint=endpoint,
        )
