"""Events of one stream that differ in their text alone: most of them, where an upstream writes nothing else anew.

What was checked once in one of them need not be parsed and checked in the next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

import orjson

_CONTENT = re.compile(rb'"content": ?"([^"\\]*(?:\\.[^"\\]*)*)"')


class Alike:
    """The bytes before and after the text of an event; between them any JSON string makes an event of the same shape."""

    __slots__ = ("_after", "_before", "_frame_bytes")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after
        self._frame_bytes = len(before) + len(after)

    @classmethod
    def of(cls, line: bytes, data: Mapping[str, Any]) -> Self | None:
        """Made of an event: its line, and the object in it, which was checked. None where it says more than a text."""
        text = _only_text(data)
        found = list(_CONTENT.finditer(line)) if text is not None else []
        if len(found) != 1:
            return None
        start, end = found[0].span(1)
        # The proof that these bytes are that text: with more between the quotes, so much more is said.
        longer = orjson.loads(line[:end].removeprefix(b"data: ") + b"+" + line[end:])
        if _only_text(longer) != f"{text}+":
            return None
        return cls(line[:start], line[end:] + b"\n\n")

    def text_of(self, event: bytes) -> str | None:
        """The text of an event of this shape; None for any other bytes."""
        if not (event.startswith(self._before) and event.endswith(self._after)):
            return None
        end = len(event) - len(self._after)
        if len(event) < self._frame_bytes:
            return None
        try:
            text: str = orjson.loads(b'"%b"' % event[len(self._before) : end])
        except orjson.JSONDecodeError:
            return None
        return text


def _only_text(data: Mapping[str, Any]) -> str | None:
    """The text of the first choice where the chunk brings nothing else that anybody counts, keeps or looks at."""
    if data.get("usage") or data.get("error") or "xrouter" in data:
        return None
    choices = data.get("choices")
    if not isinstance(choices, list) or len(choices) != 1:
        return None
    choice = choices[0]
    if choice.get("index") or choice.get("finish_reason"):
        return None
    delta = choice.get("delta") or {}
    if any(value for name, value in delta.items() if name not in ("role", "content")):
        return None
    text = delta.get("content")
    return text if isinstance(text, str) else None
