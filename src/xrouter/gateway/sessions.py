"""Conversations that stay with their model.

A session whose model waits for the results of its tool calls goes on with that model: another would read calls it
never made. Otherwise the model that answered last has the conversation in its prompt cache for a while
(`WARM_S`), and the policy moves away only where that is worth more than the discount it loses: the discount is
shown to it as `Observation.warm_tokens`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import orjson

from ..errors import StateError
from ..messages import Request
from ..state.state import State

logger = logging.getLogger("xrouter.gateway")

WARM_S = 300.0
"""How long providers keep a prompt cached without use, in seconds: five minutes is what they state."""

KEPT_S = 24 * 3600.0
"""How long a session is remembered, in seconds."""


@dataclass(frozen=True, slots=True)
class Session:
    """model: answered last, at `at` (Unix seconds), having read `prompt_tokens`."""

    model: str
    prompt_tokens: int
    at: float

    def warm_tokens(self, now: float) -> Mapping[str, int]:
        """Prompt tokens that each model is likely to have in its cache."""
        return {self.model: self.prompt_tokens} if now - self.at <= WARM_S else {}


class Sessions:
    """Sessions in the shared state, apart for each key that asks (`owner`).

    A state that cannot be reached costs a conversation its model, not its answer: the log says so.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    async def read(self, owner: str, session: str) -> Session | None:
        try:
            value = await self._state.get(_key(owner, session))
        except StateError as error:
            logger.warning("sessions: not read: %s", error)
            return None
        if value is None:
            return None
        data: dict[str, Any] = orjson.loads(value)
        return Session(data["model"], data["prompt_tokens"], data["at"])

    async def write(self, owner: str, session: str, now: Session) -> None:
        value = orjson.dumps({"model": now.model, "prompt_tokens": now.prompt_tokens, "at": now.at})
        try:
            await self._state.put(_key(owner, session), value, ttl_s=KEPT_S)
        except StateError as error:
            logger.warning("sessions: not written: %s", error)


def awaits_tool_results(request: Request) -> bool:
    """Whether the conversation ends in the results of tool calls, which the model that made them must read."""
    return request.messages[-1].get("role") in ("tool", "function")


def implied_session(request: Request) -> str | None:
    """A name for a conversation that has tools and gave itself none: what it began with. None without tools."""
    if not request.params.get("tools"):
        return None
    opening = list(
        takewhile(lambda message: message.get("role") not in ("assistant", "tool"), request.messages)
    )
    return hashlib.sha256(orjson.dumps(opening)).hexdigest()


def _key(owner: str, session: str) -> str:
    return f"session:{owner}:{session}"
