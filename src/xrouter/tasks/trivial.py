"""Trivial queries: small talk, plain facts, one-step sums. Whoever routes should answer them without any call.

The facts are in `trivial_facts.txt`, written for this package (Apache-2.0); sums, days and letters are made up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from random import Random
from typing import Any

from ..errors import ConfigurationError, DataError
from .task import Task

MAX_WORDS = 80
"""A longer answer to a trivial query hides its answer among others."""

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def generate(n: int, seed: int, only: Sequence[str] = ()) -> list[Task]:
    """`n` different tasks, the kinds in turn until one is used up; fewer than `n` where all are.

    only: kinds to draw from (small_talk, fact, sum, day, letters); empty = all. Raises ConfigurationError for
    another kind.
    """
    unknown = [kind for kind in only if kind not in KINDS]
    if unknown:
        raise ConfigurationError(f"trivial has no kind {unknown[0]!r}; it has {', '.join(KINDS)}")
    left = {kind: _everything(kind) for kind in KINDS if not only or kind in only}
    rng = Random(seed)
    for items in left.values():
        rng.shuffle(items)
    tasks: list[Task] = []
    while left and len(tasks) < n:
        for kind in list(left)[: n - len(tasks)]:
            prompt, reference = left[kind].pop()
            tasks.append(Task.of(f"trivial/{kind}", prompt, f"{__name__}:mentions", reference))
            if not left[kind]:
                del left[kind]
    return tasks


def mentions(task: Task, text: str, tool_calls: Sequence[Mapping[str, Any]] = ()) -> float:
    """1 where a short answer has one of the reference's words in it (they are separated by |), else 0.

    Raises DataError for a reference without words.
    """
    accepted = [_folded(word) for word in task.reference.split("|") if word.strip()]
    if not accepted:
        raise DataError(f"task {task.id}: reference {task.reference!r} holds no words")
    said = _folded(text)
    if tool_calls or len(said.split()) > MAX_WORDS:
        return 0.0
    return float(any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", said) for word in accepted))


def _everything(kind: str) -> list[tuple[str, str]]:
    """Every (prompt, reference) of a kind, in a fixed order."""
    if kind == "sum":
        return [
            _sum(a, b, sign)
            for a in range(1, 11)
            for b in range(1, 11)
            for sign in "+-*"
            if sign != "-" or a > b
        ]
    if kind == "day":
        return [
            (f"What day comes {side} {day}?", _DAYS[(i + step) % 7])
            for i, day in enumerate(_DAYS)
            for side, step in (("after", 1), ("before", -1))
        ]
    if kind == "letters":
        words = [answer for _, answer in _facts()["fact"] if answer.isalpha() and len(answer) <= 10]
        return [
            (f"How many letters are in the word '{word}'?", _count(len(word)))
            for word in dict.fromkeys(words)
        ]
    return list(_facts()[kind])


def _sum(a: int, b: int, sign: str) -> tuple[str, str]:
    value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    asked = {"+": "plus", "-": "minus", "*": "times"}[sign]
    return f"What is {a} {asked} {b}?", _count(value)


def _count(value: int) -> str:
    return f"{value}|{_NUMBERS[value]}" if value < len(_NUMBERS) else str(value)


@lru_cache(maxsize=1)
def _facts() -> Mapping[str, Sequence[tuple[str, str]]]:
    """Lines of `kind<TAB>prompt<TAB>accepted|accepted`."""
    text = resources.files(__package__).joinpath("trivial_facts.txt").read_text(encoding="utf-8")
    found: dict[str, list[tuple[str, str]]] = {"small_talk": [], "fact": []}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            kind, prompt, reference = line.split("\t")
            found[kind].append((prompt, reference))
    return found


def _folded(text: str) -> str:
    return " ".join(text.casefold().replace("’", "'").split())


KINDS = ("small_talk", "fact", "sum", "day", "letters")
