"""A cached answer as bytes: one line of JSON about it, then the completion as it was."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import orjson

HitKind = Literal["exact", "semantic", "coalesced"]


@dataclass(frozen=True, slots=True)
class Entry:
    """completion: a chat.completion object in compact JSON. cost_usd: what it cost. created: Unix seconds."""

    completion: bytes
    cost_usd: Decimal
    created: float

    def encode(self) -> bytes:
        head = {"cost_usd": format(self.cost_usd, "f"), "created": self.created}
        return orjson.dumps(head) + b"\n" + self.completion

    @classmethod
    def decode(cls, data: bytes) -> Entry | None:
        """None for bytes that are no entry of ours."""
        head, newline, completion = data.partition(b"\n")
        if not newline or not completion:
            return None
        try:
            fields = orjson.loads(head)
            return cls(completion, Decimal(fields["cost_usd"]), float(fields["created"]))
        except (ValueError, KeyError, TypeError, InvalidOperation):
            return None


@dataclass(frozen=True, slots=True)
class Hit:
    """An answer that need not be bought. `saved_usd` is what it cost the first time: book 0 and that as saved.

    similarity: cosine of the two messages, 1 for an equal request. age_s: seconds.
    """

    kind: HitKind
    entry: Entry
    age_s: float
    similarity: float = 1.0

    @property
    def saved_usd(self) -> Decimal:
        return self.entry.cost_usd

    def completion(self) -> dict[str, Any]:
        """The stored chat.completion object, a new copy each time."""
        return orjson.loads(self.entry.completion)  # type: ignore[no-any-return]
