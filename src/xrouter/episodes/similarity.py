"""Which free-text responses say much the same: cheap, without a model, and wary of what flips a meaning.

Two texts are alike by the weighted Jaccard index of their words, in which numbers and identifiers of code weigh more
than prose. What decides a text counts once more: texts that begin with opposite yes and no, that end on different numbers,
that have no number or identifier in common, or that negate differently though they are short, are far less alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIKE = 0.4
"""From this index on two texts count as saying the same (docs/experiments/policy.md tells how it was chosen)."""
CONFLICT = 0.4
"""The factor of each such conflict."""
HEAVY = 4
"""How often a number or an identifier counts, where a word counts once."""
MIN_WORDS = 8
"""Texts of fewer different words are compared by nobody: what they share says too little."""
MAX_CHARACTERS = 1_200
"""Of a longer text the first and the last half of this are read."""
SHORT_WORDS = 60
"""Texts of at most this many words say one thing, which one negation turns round."""
UNSPACED = 12
"""Mean bytes a word above which a script writes no spaces; its characters stand for words then."""

_KEPT = frozenset(b"_.%")
_SPACED = bytes(c if c >= 128 or chr(c).isalnum() or c in _KEPT else 32 for c in range(256))
"""ASCII punctuation becomes a space, but for what numbers and names are written with; apostrophes are dropped."""


def _words(line: str) -> frozenset[bytes]:
    return frozenset(line.encode().split())


_NEGATIONS = _words(
    "no not never none neither nor nothing without cannot cant wont isnt arent wasnt doesnt dont didnt shouldnt couldnt "
    "wouldnt illegal impossible false incorrect invalid unable nicht kein keine nie non pas jamais nunca não нет не"
)
_YES = _words("yes yeah yep correct true sure certainly ja oui si sí sim да")
_NO = _words("no nope incorrect false never nein non não нет")


@dataclass(frozen=True, slots=True)
class _Read:
    """A text, ready to be compared. stance: 1 for yes, -1 for no, 0 for neither. number: the last one, if any."""

    plain: frozenset[bytes]
    heavy: frozenset[bytes]
    negations: frozenset[bytes]
    stance: int
    number: bytes
    words: int


def similar_classes(texts: Sequence[str | None]) -> list[int]:
    """A class for each text that is like another one, numbered from 0 in order of appearance; -1 for one that is like
    none, and for None. A text joins the class that it is most like on average.
    """
    read = [None if text is None else _read(text) for text in texts]
    groups: list[list[tuple[int, _Read]]] = []
    for i, text in enumerate(read):
        if text is None:
            continue
        means = [sum(_alike(text, other) for _, other in group) / len(group) for group in groups]
        best = max(means, default=0.0)
        if best >= ALIKE:
            groups[means.index(best)].append((i, text))
        else:
            groups.append([(i, text)])
    classes = [-1] * len(texts)
    for number, group in enumerate(group for group in groups if len(group) > 1):
        for i, _ in group:
            classes[i] = number
    return classes


def similarity(first: str, second: str) -> float:
    """How alike two texts are, 0..1; 0 where one of them is too short to say."""
    return _alike(_read(first), _read(second))


def _read(text: str) -> _Read:
    if len(text) > MAX_CHARACTERS:
        text = f"{text[: MAX_CHARACTERS // 2]} {text[-MAX_CHARACTERS // 2 :]}"
    text = text.lower().replace("\u2019", "'") + " "
    written = text.encode("utf-8", "replace").translate(_SPACED, b"'")
    words = written.replace(b". ", b"  ").split()
    if len(written) > UNSPACED * max(len(words), 1) and not text.isascii():
        words = [character.encode("utf-8", "replace") for character in text if character.isalnum()]
    distinct = frozenset(words)
    odd = [word for word in distinct if not word.isalpha()]
    heavy = frozenset(word.strip(b".") for word in odd if word.isascii())
    plain = distinct.difference(odd).union(word for word in odd if not word.isascii())
    stance = 0 if not words else (words[0] in _YES) - (words[0] in _NO)
    return _Read(
        plain, heavy - {b""}, plain & _NEGATIONS, stance, _last_number(words) if heavy else b"", len(words)
    )


def _last_number(words: list[bytes]) -> bytes:
    for word in reversed(words):
        bare = word.strip(b".")
        if bare[-1:].isdigit() or bare[:1].isdigit():
            return bare
    return b""


def _alike(first: _Read, second: _Read) -> float:
    if min(len(first.plain) + len(first.heavy), len(second.plain) + len(second.heavy)) < MIN_WORDS:
        return 0.0
    plain, heavy = len(first.plain & second.plain), len(first.heavy & second.heavy)
    every_plain = len(first.plain) + len(second.plain) - plain
    every_heavy = len(first.heavy) + len(second.heavy) - heavy
    index = (plain + HEAVY * heavy) / (every_plain + HEAVY * every_heavy)
    if first.stance * second.stance < 0:
        index *= CONFLICT
    if first.number != second.number and first.number and second.number:
        index *= CONFLICT
    if not heavy and first.heavy and second.heavy:
        index *= CONFLICT
    if max(first.words, second.words) <= SHORT_WORDS and first.negations != second.negations:
        index *= CONFLICT
    return index
