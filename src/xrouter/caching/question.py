"""What determines an answer, and the keys it is cached under."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import orjson

from ..messages import Request

_FORMAT = 1
"""Part of every key: raised whenever what is hashed or stored changes its shape."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request with everything else that decides how it is answered.

    scope: who may share the answer, a virtual key's or a team's id; never the secret.
    model: as the client asked for it. policy: name and version of the policy, with whatever else its choice hangs on,
        such as the pool.
    preference: lambda or target quality, cost cap, turns (not the deadline: it decides when, not what).
    allowed, forbidden: models; None = not limited.
    """

    scope: str
    model: str
    request: Request
    policy: str = ""
    preference: Mapping[str, Any] = field(default_factory=dict)
    allowed: tuple[str, ...] | None = None
    forbidden: tuple[str, ...] = ()

    def key(self) -> str:
        """SHA-256 over canonical JSON, in hexadecimal: equal for equal questions only."""
        return _digest([*self._frame(), self.request.messages])

    def bucket(self) -> str:
        """`key` without the text of the last message: what two questions must share to be nearly the same."""
        return _digest(["bucket", *self._without_text()])

    def wording_key(self, words: Sequence[str]) -> str:
        """A key that questions share whose last messages come to the same `words`."""
        return _digest(["words", *self._without_text(), list(words)])

    def _without_text(self) -> list[Any]:
        *earlier, last = self.request.messages
        return [*self._frame(), earlier, {**last, "content": None}]

    def _frame(self) -> list[Any]:
        return [
            _FORMAT,
            self.scope,
            self.model,
            self.policy,
            self.preference,
            None if self.allowed is None else sorted(self.allowed),
            sorted(self.forbidden),
            self.request.params,
        ]


def _digest(parts: list[Any]) -> str:
    # OPT_NON_STR_KEYS is left out on purpose: a key that is no string never came from JSON.
    return sha256(orjson.dumps(parts, default=_plain, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _plain(value: Any) -> Any:
    """Mappings of other kinds as dicts, the rest (exact decimals) as text."""
    return dict(value) if isinstance(value, Mapping) else str(value)
