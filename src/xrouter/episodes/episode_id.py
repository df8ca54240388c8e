"""Names of episodes."""

from __future__ import annotations

import secrets
import time


def new_episode_id() -> str:
    """32 hexadecimal digits: the time in milliseconds, then 80 random bits.

    In order of time, as version 7 of UUIDs is (RFC 9562): rows that are written together then stand together in an index,
    and a commit changes few pages of it, however large the books are.
    """
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"
