"""DAPO's soft punishment of replies near their limit (arXiv 2503.14476, equation 13)."""

from __future__ import annotations

from collections.abc import Sequence


def overlong_penalty(replies: Sequence[int], limit: int, *, buffer: int, penalty: float) -> float:
    """What the longest reply costs: nothing until `limit - buffer` tokens, then linearly more, `penalty` at the limit."""
    if not buffer or not replies:
        return 0.0
    over = max(replies) - (limit - buffer)
    return penalty * min(1.0, max(0.0, over / buffer))
