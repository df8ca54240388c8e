"""The vectors of the semantic cache: per bucket, bounded over all of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

_FIRST_ROWS = 8


def unit(values: NDArray[np.floating] | Sequence[float]) -> Vector:
    """The vector at length 1, as float32; a zero vector stays zero."""
    vector = np.asarray(values, np.float32).ravel()
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)


@dataclass(slots=True)
class _Bucket:
    """Rows 0 .. len(keys) of `rows_ND` are in use."""

    rows_ND: NDArray[np.float32]
    keys: list[str] = field(default_factory=list)
    row_of: dict[str, int] = field(default_factory=dict)


class VectorIndex:
    """Unit vectors and texts by key. Beyond `max_entries` the one that was added or found longest ago goes."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._buckets: dict[str, _Bucket] = {}
        self._of: OrderedDict[str, tuple[str, str]] = OrderedDict()  # key -> (bucket, text)

    def __len__(self) -> int:
        return len(self._of)

    def add(self, bucket: str, key: str, text: str, vector: Vector) -> None:
        self.remove(key)
        held = self._buckets.get(bucket)
        if held is None or held.rows_ND.shape[1] != len(vector):
            for old in () if held is None else tuple(held.keys):
                self.remove(old)
            held = self._buckets[bucket] = _Bucket(np.empty((_FIRST_ROWS, len(vector)), np.float32))
        row = len(held.keys)
        if row == len(held.rows_ND):
            held.rows_ND = np.concatenate([held.rows_ND, np.empty_like(held.rows_ND)])
        held.rows_ND[row] = vector
        held.keys.append(key)
        held.row_of[key] = row
        self._of[key] = (bucket, text)
        while len(self._of) > self._max_entries:
            self.remove(next(iter(self._of)))

    def near(self, bucket: str, vector: Vector, threshold: float) -> Iterator[tuple[str, str, float]]:
        """(key, text, cosine) of the bucket's vectors from `threshold` up, the nearest first."""
        held = self._buckets.get(bucket)
        if held is None or held.rows_ND.shape[1] != len(vector):
            return
        cosine_N = held.rows_ND[: len(held.keys)] @ vector
        rows = np.flatnonzero(cosine_N >= threshold)
        ordered = rows[np.argsort(-cosine_N[rows], kind="stable")]
        for key, cosine in [(held.keys[row], float(cosine_N[row])) for row in ordered.tolist()]:
            if key in self._of:
                yield key, self._of[key][1], min(cosine, 1.0)

    def touch(self, key: str) -> None:
        if key in self._of:
            self._of.move_to_end(key)

    def remove(self, key: str) -> None:
        bucket, _ = self._of.pop(key, ("", ""))
        held = self._buckets.get(bucket)
        if held is None:
            return
        row, last = held.row_of.pop(key), held.keys.pop()
        if last != key:  # the last row moves into the gap
            held.rows_ND[row] = held.rows_ND[len(held.keys)]
            held.keys[row], held.row_of[last] = last, row
        if not held.keys:
            del self._buckets[bucket]
