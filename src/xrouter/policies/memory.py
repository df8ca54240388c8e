"""What a served policy remembers between decisions, within bounds: text features and what is known of a pool."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

from ..catalog.model import Model
from .states import Floats

MOST_QUERIES = 512
MOST_CHARACTERS = 2_000_000
MOST_POOLS = 32

T = TypeVar("T")


class RememberedQueries:
    """An encoder that answers again for the queries of its last calls: an episode decides several times.

    Keeps at most `MOST_QUERIES` of together at most `MOST_CHARACTERS`, those used last. Safe among threads.
    """

    def __init__(self, encode: Callable[[Sequence[str]], Floats]) -> None:
        self._encode = encode
        self._rows: OrderedDict[str, Floats] = OrderedDict()
        self._characters = 0
        self._lock = threading.Lock()

    def __call__(self, queries: Sequence[str]) -> Floats:
        """Text features [B, D]."""
        with self._lock:
            found = {query: self._rows[query] for query in queries if query in self._rows}
            for query in found:
                self._rows.move_to_end(query)
        new = [query for query in dict.fromkeys(queries) if query not in found]
        if new:
            rows = self._encode(new)
            found.update(zip(new, rows, strict=True))
            with self._lock:
                self._keep(new, rows)
        return np.array([found[query] for query in queries])

    def _keep(self, queries: Sequence[str], rows: Floats) -> None:
        for query, row in zip(queries, rows, strict=True):
            if query not in self._rows:
                self._rows[query] = row.copy()  # a row of a batch would keep the whole batch
                self._characters += len(query)
        while len(self._rows) > MOST_QUERIES or self._characters > MOST_CHARACTERS:
            forgotten, _ = self._rows.popitem(last=False)
            self._characters -= len(forgotten)


class ByPool(Generic[T]):
    """What `work_out` makes of a pool's models, kept for the last `MOST_POOLS` pools. Safe among threads."""

    def __init__(self, work_out: Callable[[tuple[Model, ...]], T]) -> None:
        self._work_out = work_out
        self._kept: dict[tuple[int, ...], tuple[tuple[Model, ...], T]] = {}
        self._lock = threading.Lock()

    def __call__(self, models: tuple[Model, ...]) -> T:
        # Comparing models by value takes longer than a decision. Their ids are theirs while they are kept.
        key = tuple(map(id, models))
        kept = self._kept.get(key)
        if kept is None:
            kept = models, self._work_out(models)
            with self._lock:
                self._kept[key] = kept
                while len(self._kept) > MOST_POOLS:
                    del self._kept[next(iter(self._kept))]
        return kept[1]
