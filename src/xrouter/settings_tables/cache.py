"""The [cache] table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..toml_reader import Reader, number, one_of, whole

CacheStore = Literal["memory", "state"]


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Answers kept for later; all of it is off unless turned on.

    exact: the same request again. semantic: the same but for how its last message is worded.
    coalesce: equal requests under way at once wait for the first of them.
    store: "memory" is this process's own, bounded by `max_entries` and `max_bytes`; "state" is what gateways share.
    ttl_s: seconds an answer is kept.
    max_entries: answers in memory, and vectors of the semantic cache.
    semantic_turns: user messages of the longest conversation that the semantic cache looks at.
    embedding: dotted path of a function text -> vector; without it only manner of wording is overlooked.
    threshold: cosine of two vectors from which messages are taken for the same.
    shared_between_keys: one key's answers may go to another.
    """

    exact: bool = False
    semantic: bool = False
    coalesce: bool = False
    store: CacheStore = "memory"
    ttl_s: float = 3600.0
    max_entries: int = 10_000
    max_bytes: int = 64 * 1024 * 1024
    semantic_turns: int = 1
    embedding: str | None = None
    threshold: float = 0.97
    shared_between_keys: bool = False

    @property
    def on(self) -> bool:
        return self.exact or self.semantic or self.coalesce


_READERS: Mapping[str, Callable[[Reader, str], Any]] = {
    "exact": Reader.flag,
    "semantic": Reader.flag,
    "coalesce": Reader.flag,
    "store": one_of(*get_args(CacheStore)),
    "ttl_s": number(0, above=True),
    "max_entries": whole(1),
    "max_bytes": whole(1),
    "threshold": number(0, 1, above=True),
    "semantic_turns": whole(1),
    "embedding": Reader.text,
    "shared_between_keys": Reader.flag,
}


def read_cache(reader: Reader, key: str) -> CacheSettings:
    return CacheSettings(**reader.subtable(key).read(_READERS))
