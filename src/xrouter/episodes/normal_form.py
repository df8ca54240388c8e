"""The normal form of an answer: equal answers become equal strings.

Numbers lose currency, thousands separators, units and percent signs, and every spelling of one rational
(1/2, \\frac{1}{2}, 0.50) becomes one. LaTeX loses its wrappers, JSON and Python literals their spacing, an
option letter its brackets, strings their quotes, plain words their capitals. It does no algebra: \\sqrt{8} and 2\\sqrt{2} differ.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from fractions import Fraction
from typing import Any

MAX_NUMBER_LENGTH = 60
"""Characters; a longer string of digits stays as it is written."""

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+"
_RATIONAL = re.compile(
    rf"([-+−]?)\s*[$€£¥]?\s*([-+−]?)({_NUMBER})(?:[eE]([-+]?\d{{1,3}}))?(?:\s*/\s*({_NUMBER}))?(?:\s*[%°])?"
)
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]+)\}|(\d))\s*(?:\{([^{}]+)\}|(\d))")
_MIXED = re.compile(r"([-+−]?)(\d+)\s*\\[dtc]?frac\s*\{(\d+)\}\s*\{(\d+)\}")
_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|mathrm|mathbf|mathit|mathsf|operatorname|mbox|boxed|fbox)\s*\{([^{}]*)\}"
)
_DELIMITERS = (("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]"), ("$", "$"), ("**", "**"), ("`", "`"))
_LETTER = re.compile(
    r"(?:[Oo]ption\s+|[Cc]hoice\s+)?(?:\(([A-Ja-j])\)|\[([A-J])\]|([A-J])[.:]?|([A-Ja-j])\))"
)
_VARIABLE = re.compile(r"\A[a-zA-Z]\s*=\s*(?=\S)")
_UNIT = re.compile(r"(?:[a-zA-Z]{2,}|[a-zA-Z]{1,3}/[a-zA-Z]{1,3})\.?")
_NOT_A_UNIT = re.compile(
    r"(?:or|and|to|of|by|than|am|pm|dozen|half|hundred|thousand|million|billion|trillion|pi|sqrt|log|ln|sin|cos|"
    r"tan|mod)\.?",
    re.IGNORECASE,
)
_PLAIN_WORDS = re.compile(r"(?=.*[a-z])[A-Z]?[a-z]*(?:[ -][A-Z]?[a-z]+)*")


def normalise(answer: str) -> str:
    """The normal form of `answer`; applying it twice changes nothing more."""
    text = _unwrap(answer)
    letter = _LETTER.fullmatch(text)
    if letter:
        return str(letter[letter.lastindex or 0]).upper()
    number = _number(text)
    if number is not None:
        return number
    literal = _literal(text)
    if literal is not None:
        return literal
    if "\\" in text or "^" in text:
        return _latex(text)
    return _words(text)


def _unwrap(text: str) -> str:
    """Without surrounding space, LaTeX and Markdown delimiters, text wrappers and closing punctuation."""
    before = None
    text = text.strip()
    while text != before:
        before = text
        for opening, closing in _DELIMITERS:
            if text.startswith(opening) and text.endswith(closing):
                inner = text[len(opening) : -len(closing)]
                if len(text) > len(opening) + len(closing) and opening not in inner:
                    text = inner.strip()
        if not text.startswith(("'", '"')):
            if "\\" in text:
                text = _WRAPPER.sub(r"\1", text)
            text = _trim_punctuation(_VARIABLE.sub("", text))
    return text


def _trim_punctuation(text: str) -> str:
    trimmed = text.rstrip()
    if (
        trimmed.endswith((".", ",", ";", "!", "\\"))
        and len(trimmed) > 1
        and not trimmed.endswith(("...", "!!"))
    ):
        trimmed = trimmed[:-1].rstrip()
    return trimmed


def _number(text: str) -> str | None:
    """Canonical rational of a text that is one number, with or without a unit; None if it is something else."""
    if len(text) > MAX_NUMBER_LENGTH:
        return None
    if text.isascii() and text.isdigit():
        return text.lstrip("0") or "0"
    plain = text.replace("{,}", ",")
    if "\\" in plain:
        plain = plain.replace("\\%", "%").replace("\\$", "$").replace("\\!", "").replace("{,}", ",")
        plain = re.sub(r"\\[,;: ]", "", plain)
        plain = re.sub(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)", "", plain)
        mixed = _MIXED.fullmatch(plain)
        if mixed and int(mixed[4]):
            value = int(mixed[2]) + Fraction(int(mixed[3]), int(mixed[4]))
            return _canonical_rational(-value if mixed[1] in ("-", "−") else value)
        plain = _FRACTION.sub(lambda m: f"{m[1] or m[2]}/{m[3] or m[4]}", plain)
    match = _RATIONAL.match(plain)
    if match is None or not _is_unit(plain[match.end() :]):
        return None
    value = Fraction(match[3].replace(",", ""))
    if match[4]:
        value *= Fraction(10) ** int(match[4])
    if match[5]:
        denominator = Fraction(match[5].replace(",", ""))
        if denominator == 0:
            return None
        value /= denominator
    negative = (match[1] in ("-", "−")) != (match[2] in ("-", "−"))
    return _canonical_rational(-value if negative else value)


def _is_unit(rest: str) -> bool:
    """Whether what follows a number is nothing or one or two plain words: 18 dollars, 5 square feet, 60 km/h."""
    if not rest.strip():
        return True
    words = rest.split()
    return (
        rest[0].isspace()
        and len(words) <= 2
        and all(_UNIT.fullmatch(word) and not _NOT_A_UNIT.fullmatch(word) for word in words)
    )


def _canonical_rational(value: Fraction) -> str:
    """A decimal where the rational has a finite one, otherwise p/q in lowest terms."""
    rest, places = value.denominator, 0
    while rest % 10 == 0 or rest % 2 == 0 or rest % 5 == 0:
        rest //= 10 if rest % 10 == 0 else 2 if rest % 2 == 0 else 5
        places += 1
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    whole, fraction = (digits[:-places], digits[-places:].rstrip("0")) if places else (digits, "")
    return ("-" if value < 0 else "") + whole + (f".{fraction}" if fraction else "")


def _literal(text: str) -> str | None:
    """Canonical JSON of a JSON or Python list, dict, tuple, set, string, truth value or None."""
    if text in ("true", "false", "null"):
        return {"true": "true", "false": "false", "null": "none"}[text]
    if not text.startswith(("[", "{", "(", "'", '"')):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            with warnings.catch_warnings(action="ignore"):
                value = ast.literal_eval(text)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return None
    if isinstance(value, str):
        return normalise(value) if len(value) < len(text) else None
    if isinstance(value, (list, dict, tuple, set)):
        return _python(value)
    return None


def _python(value: Any) -> str:
    """One spelling for nested values. Tuples keep their brackets: (1, 2) is not [1, 2]."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_python(key)}:{_python(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_python, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ",".join(map(_python, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, (set, frozenset)):
        return "{" + ",".join(sorted(map(_python, value))) + "}"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return _json(value) if isinstance(value, str) else repr(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _latex(text: str) -> str:
    """LaTeX without spacing, sizing and optional braces."""
    text = re.sub(r"\\(?:left|right|bigl?|bigr?|Bigl?|Bigr?|displaystyle|limits)(?![a-zA-Z])", "", text)
    text = re.sub(r"\\[,;:!]|\\quad|\\qquad|\\ ", "", text)
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\sqrt\s*(\w)", r"\\sqrt{\1}", text)
    text = re.sub(r"([\^_])\{(\w)\}", r"\1\2", text)
    text = text.replace("\\cdot", "*").replace("\\times", "*").replace("\\%", "%").replace("\\$", "$")
    text = text.replace("^\\circ", "").replace("\\degree", "")
    return re.sub(r"\s+", "", text)


def _words(text: str) -> str:
    """Plain text with single spaces. Capitals go where they only start words; elsewhere they may mean something."""
    text = " ".join(re.sub(r"\s*,\s+", ",", text).split())
    return text.lower() if _PLAIN_WORDS.fullmatch(text) else text
