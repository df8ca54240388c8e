"""JSON as models write it: in the middle of text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def json_values(text: str) -> Iterator[Any]:
    """Every outermost JSON object or list in a text, in order; what does not parse is passed over."""
    decoder = json.JSONDecoder()
    position = 0
    while (position := _next_opening(text, position)) >= 0:
        try:
            value, position = decoder.raw_decode(text, position)
        except (json.JSONDecodeError, RecursionError):
            position += 1
            continue
        yield value


def _next_opening(text: str, start: int) -> int:
    places = [place for bracket in "{[" if (place := text.find(bracket, start)) >= 0]
    return min(places, default=-1)
