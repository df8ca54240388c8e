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
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from string import ascii_letters, digits
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

BUCKETS = 1 << 18
MAX_CHARACTERS = 1000
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_ASCII_NUMBER = re.compile(rb"[0-9]+(?:\.[0-9]+)?")
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


_IN_WORDS = frozenset(ascii_letters + digits + "_ ")
_IN_ASCII_WORDS = "".join(_IN_WORDS).encode()
_APART = [b" " if chr(i).isspace() else b" %c " % i for i in range(128)]
_TO_NUMERALS = bytes(i if chr(i) in digits + "." else ord(" ") for i in range(256))


def words_and_marks(text: str) -> list[bytes]:
    r"""The matches of the regular expression ``\w+|[^\w\s]`` in UTF-8, found several times faster."""
    if text.isascii():
        data = text.encode()
        for mark in set(data.translate(None, _IN_ASCII_WORDS)):
            data = data.replace(b"%c" % mark, _APART[mark])
        return data.split()
    for character in set(text) - _IN_WORDS:
        if character.isspace():
            text = text.replace(character, " ")
        elif not character.isalnum():
            text = text.replace(character, f" {character} ")
    return text.encode("utf-8", "surrogatepass").split()


def numbers_in(text: str) -> Sequence[str | bytes]:
    """Decimal numbers without sign or exponent, in order."""
    if text.isascii():
        # All else goes first: what is left to search is short.
        return _ASCII_NUMBER.findall(b" ".join(text.encode().translate(_TO_NUMERALS).split()))
    return _NUMBER.findall(text)


def hashes(text: str) -> NDArray[np.int64]:
    """Buckets of the words and word pairs of the text's head and tail, with repetitions."""
    words = words_and_marks(head_and_tail(text).lower())
    single = list(map(crc32, words))
    # A checksum goes on where another ended: that of "a b" starts from that of "a".
    pairs = map(crc32, [b" " + word for word in words], [0, *single])
    return np.array(array("L", [*single, *pairs]), np.int64) & (BUCKETS - 1)


def hashed_counts(text: str) -> Counter[int]:
    """Counts of hashed words and word pairs of the text's head and tail."""
    return Counter(hashes(text).tolist())


def shape(text: str) -> list[float]:
    """The `SHAPE` of a text, counts as log(1 + n)."""
    text = text[:MAX_SHAPE_CHARACTERS]
    words, numbers = text.split(), numbers_in(text)
    counts = [len(text), len(words), len(numbers), sum(map(len, numbers)), *map(text.count, _COUNTED)]
    some = max(len(words), 1)
    largest = max(map(float, numbers[:MAX_NUMBERS]), default=0.0)
    return [
        *map(math.log1p, counts),
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
            at = np.sort(self._row_of_bucket[hashes(query)])
            at = at[at.searchsorted(0) :]
            if not len(at):
                continue
            changes = np.ones(len(at) + 1, bool)
            np.not_equal(at[1:], at[:-1], out=changes[1:-1])
            starts = changes.nonzero()[0]
            at, count = at[starts[:-1]], starts[1:] - starts[:-1]
            weight = (1.0 + np.log(count.astype(np.float32))) * self.idf_V[at]
            vector = weight @ self.projection_VD[at]
            out[row] = vector / max(math.sqrt(float(vector @ vector)), 1e-9)
        return out

    @cached_property
    def _row_of_bucket(self) -> NDArray[np.int32]:
        """Where each bucket stands in `buckets_V`, -1 where it was not kept."""
        rows = np.full(BUCKETS, -1, np.int32)
        rows[self.buckets_V] = np.arange(len(self.buckets_V))
        return rows

    def shapes(self, queries: Sequence[str]) -> Floats32:
        """Standardised counts [B, S], weighted to stand beside the embedding."""
        counts = np.array([shape(query) for query in queries], np.float32).reshape(len(queries), len(SHAPE))
        apart = (counts - self.shape_2S[0]) / self.shape_2S[1]
        return np.asarray(SHAPE_WEIGHT * np.minimum(np.maximum(apart, -SHAPE_LIMIT), SHAPE_LIMIT), np.float32)

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
