"""Whether two messages may mean the same, judged by their words. Both tests lean towards no: a miss costs a call, a wrong
hit costs trust.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from .word_lists import CASED, NEGATIONS, NUMBERS, OTHER_SIDE, TURNING_PREFIXES, TURNING_SUFFIXES

_LITERAL = re.compile(r"[\"“”‘«»`:\n\t{}<>=]|(?<!\w)['’]|['’](?!\w)")
"""Signs of quoted text, code or data, where every character may count."""
_TOKEN = re.compile(r"\d+(?:[.,:/]\d+)*|[^\W\d_]+|[^\w\s]|_")
_OPENING = re.compile(
    r"(?:(?:hi|hey)[,!.]\s+)?(?:(?:please|kindly)\s+|(?:can|could|would|will) you\s+(?:(?:please|kindly)\s+)?"
    r"(?:tell me\s+)?|tell me\s+|i (?:want|would like) to know\s+)?",
    re.IGNORECASE,
)
_MARKS = ".?! "
_CLOSING = re.compile(r"[,.?!]\s*(?:please|thanks|thank you)$", re.IGNORECASE)
_SHORT_IS = re.compile(r"\b(what|who|where|when|how|that|it|there|here)['’]s\b", re.IGNORECASE)
_SHORT_NOT = re.compile(r"\b(?:(ca)n|(wo)|(\w+?))n['’]t\b", re.IGNORECASE)


def plain_words(text: str) -> tuple[str, ...]:
    """The message without what is mere manner: case, a greeting, "please", a leading "can you", "the", the last mark.

    Two messages of the same plain words ask the same. Quoted text, code and data stay as they are, character for
    character, and so do words whose case tells them apart (US and us, Polish and polish).
    """
    text = unicodedata.normalize("NFC", text).strip()
    if _LITERAL.search(text):
        return (text,)
    tokens = _TOKEN.findall(_long_forms(_ended(_OPENING.sub("", text, count=1))))
    return tuple(
        _folded(token) for i, token in enumerate(tokens) if token != "the" and not (i == 0 and token == "The")
    )


def may_mean_the_same(one: str, other: str) -> bool:
    """False where the messages differ in a number, a negation, a name, an opposite, quoted text, or the order of these.

    What passes is not yet the same: it takes an embedding that knows synonyms to say so.
    """
    if _LITERAL.search(one) or _LITERAL.search(other):
        return one.strip() == other.strip()
    if _marked(one) != _marked(other):
        return False
    words, others = Counter(_words(one)), Counter(_words(other))
    gone, come = set(words - others), set(others - words)
    if (gone & NEGATIONS) or (come & NEGATIONS):
        return False
    if any(OTHER_SIDE.get(word, frozenset()) & come for word in gone):
        return False
    return not (_negated(gone, come) or _negated(come, gone))


def _ended(text: str) -> str:
    """Without the last marks and thanks."""
    return _CLOSING.sub("", text.rstrip(_MARKS)).rstrip(_MARKS)


def _long_forms(text: str) -> str:
    text = _SHORT_IS.sub(r"\1 is", text)
    return _SHORT_NOT.sub(lambda m: f"{'can' if m[1] else 'will' if m[2] else m[3]} not", text)


def _folded(token: str) -> str:
    if token[0].isdigit():
        return token.replace(",", "")
    shouted = len(token) > 1 and token.isupper()
    return token if shouted or token.lower() in CASED else token.casefold()


def _words(text: str) -> list[str]:
    return [token.casefold() for token in _TOKEN.findall(_long_forms(text)) if token[0].isalpha()]


def _marked(text: str) -> list[str]:
    """Numbers, written out or not, signs, and names (capitals other than the first word's), in their order."""
    found = []
    for i, token in enumerate(_TOKEN.findall(_long_forms(_ended(text.strip())))):
        number = NUMBERS.get(token.casefold())
        if number is not None:
            found.append(number)
        elif token[0].isdigit():
            found.append(token.replace(",", ""))
        elif token[0].isalpha():
            if (len(token) == 1 and token not in "aiI") or (i > 0 and token[0].isupper() and token != "I"):
                found.append(token.casefold())
        elif token not in ",.;!?'’":
            found.append(token)
    return found


def _negated(words: set[str], others: set[str]) -> bool:
    """Whether a word of one is a word of the other turned by its beginning or its end."""
    for word in words:
        for old, new in TURNING_PREFIXES:
            if word.startswith(old) and new + word[len(old) :] in others:
                return True
        for old, new in TURNING_SUFFIXES:
            if word.endswith(old) and word[: len(word) - len(old)] + new in others:
                return True
    return False
