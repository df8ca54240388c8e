"""Times as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ..errors import RequestError

_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def moment(text: str, now: float, option: str) -> float:
    """Unix seconds of a span back from `now` or of an ISO date or time (UTC unless it says otherwise).

    Raises RequestError naming the option.
    """
    if _SPAN.fullmatch(text.strip()):
        return now - span_s(text, option)
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise RequestError(
            f"{option} must be a span such as 24h or 7d, or a date such as 2026-01-31, got {text!r}",
            param=option,
        ) from error
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def span_s(text: str, option: str) -> float:
    """Seconds of a span such as 90m, 24h, 7d or 2w. Raises RequestError naming the option."""
    span = _SPAN.fullmatch(text.strip())
    if span is None:
        raise RequestError(f"{option} must be a span such as 90m, 24h or 7d, got {text!r}", param=option)
    return float(span[1]) * _SECONDS[span[2]]
