"""Text features of a query without a download: hashed words, projected to a dense vector.

Axes: B queries, V kept hash buckets, D dimensions, L landmarks.

Words and word pairs are hashed (CRC-32, so every machine agrees), weighted by TF-IDF, projected by a truncated
SVD fitted on training prompts, and compared with landmarks (k-means centres of training prompts). The landmark
similarities are the Nyström features of an RBF kernel (Williams and Seeger, 2001): locality at a fixed size.
Beside them stand counts that say how a query is built whatever it is about: its length, numbers, brackets, quotes.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

BUCKETS = 1 << 18
MAX_CHARACTERS = 1000
_WORD = re.compile(r"\w+|[^\w\s]")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_COUNTED = ("\n", "\\", "(", "=", ",", "{", '"', ":", "?", "`", "_")
SHAPE = (
    "characters",
    "words",
    "numbers",
    "digits",
    *_COUNTED,
    "word length",
    "distinct words",
    "largest number",
)
MAX_SHAPE_CHARACTERS = 20_000
MAX_NUMBERS = 40
SHAPE_WEIGHT = 0.1
"""Of a count beside the unit vector of the words: what predicted outcomes of held-out training queries best."""
SHAPE_LIMIT = 3.0
"""Standard deviations of the training prompts beyond which a count is cut off."""
FAMILIARITY_TOLERANCE = 0.01
"""Of similarities: a training prompt is told apart from its like neither by rounding nor by the precision of a file."""

Floats32 = NDArray[np.float32]


def head_and_tail(text: str, limit: int = MAX_CHARACTERS) -> str:
    """The first and last half of a long text: instructions stand at either end."""
    return text if len(text) <= limit else f"{text[: limit // 2]} {text[-limit // 2 :]}"


def hashes(text: str) -> NDArray[np.int64]:
    """Buckets of the words and word pairs of the text's head and tail, with repetitions."""
    words = [word.encode("utf-8", "surrogatepass") for word in _WORD.findall(head_and_tail(text).lower())]
    single = list(map(crc32, words))
    # A checksum goes on where another ended: that of "a b" starts from that of "a".
    pairs = map(crc32, [b" " + word for word in words], [0, *single])
    return np.array([*single, *pairs], np.int64) % BUCKETS


def hashed_counts(text: str) -> Counter[int]:
    """Counts of hashed words and word pairs of the text's head and tail."""
    return Counter(hashes(text).tolist())


def shape(text: str) -> list[float]:
    """The `SHAPE` of a text, counts as log(1 + n)."""
    text = text[:MAX_SHAPE_CHARACTERS]
    words, numbers = text.split(), _NUMBER.findall(text)
    counts = [len(text), len(words), len(numbers), sum(map(len, numbers)), *map(text.count, _COUNTED)]
    some = max(len(words), 1)
    largest = max((float(number) for number in numbers[:MAX_NUMBERS]), default=0.0)
    return [
        *(math.log1p(count) for count in counts),
        len(text) / some / 5.0,
        len(set(words)) / some,
        math.log1p(min(largest, 1e30)),
    ]


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """buckets_V sorted; idf_V; projection_VD; landmarks_LD of unit length; sharpness of the RBF kernel.

    shape_2S: mean and standard deviation of each count of `SHAPE` over the training prompts.
    familiar: similarity to the nearest landmark below which a query is unlike anything in training.
    """

    buckets_V: NDArray[np.int64]
    idf_V: Floats32
    projection_VD: Floats32
    landmarks_LD: Floats32
    sharpness: float
    shape_2S: Floats32
    familiar: float

    @property
    def width(self) -> int:
        return 1 + len(SHAPE) + int(self.projection_VD.shape[1]) + len(self.landmarks_LD)

    def embed(self, queries: Sequence[str]) -> Floats32:
        """Unit vectors [B, D]; a text with no known word is the zero vector."""
        out = np.zeros((len(queries), self.projection_VD.shape[1]), np.float32)
        for row, query in enumerate(queries):
            found, count = np.unique(hashes(query), return_counts=True)
            if not len(found):
                continue
            weight = 1.0 + np.log(count.astype(np.float32))
            at = np.minimum(np.searchsorted(self.buckets_V, found), len(self.buckets_V) - 1)
            known = self.buckets_V[at] == found
            at, weight = at[known], weight[known] * self.idf_V[at[known]]
            vector = weight @ self.projection_VD[at]
            out[row] = vector / max(float(np.linalg.norm(vector)), 1e-9)
        return out

    def shapes(self, queries: Sequence[str]) -> Floats32:
        """Standardised counts [B, S], weighted to stand beside the embedding."""
        counts = np.array([shape(query) for query in queries], np.float32).reshape(len(queries), len(SHAPE))
        apart = (counts - self.shape_2S[0]) / self.shape_2S[1]
        return np.asarray(SHAPE_WEIGHT * np.clip(apart, -SHAPE_LIMIT, SHAPE_LIMIT), np.float32)

    def familiar_B(self, encoded_BD: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether each encoded query resembles training prompts."""
        nearest_B = encoded_BD[:, -len(self.landmarks_LD) :].max(1)
        return np.asarray(nearest_B >= self.familiar - FAMILIARITY_TOLERANCE, bool)

    def encode(self, queries: Sequence[str]) -> Floats32:
        """[1, shape, embedding, landmark similarities]: what linear skill and length profiles are fitted on."""
        embedded_BD = self.embed(queries)
        similarity_BL = np.exp(self.sharpness * (embedded_BD @ self.landmarks_LD.T - 1.0))
        ones = np.ones((len(queries), 1), np.float32)
        return np.concatenate(
            [ones, self.shapes(queries), embedded_BD, similarity_BL], axis=1, dtype=np.float32
        )
