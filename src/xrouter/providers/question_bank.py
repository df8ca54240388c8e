"""Simple questions with known answers: what a simulated pool is asked in demos and tests."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ARITHMETIC = "arithmetic"
WORD_PROBLEM = "word_problem"
CAPITAL = "capital"
SCIENCE = "science"
DOMAINS = (ARITHMETIC, WORD_PROBLEM, CAPITAL, SCIENCE)

_CAPITALS = {
    "France": "Paris",
    "Japan": "Tokyo",
    "Brazil": "Brasilia",
    "Australia": "Canberra",
    "Canada": "Ottawa",
    "Kenya": "Nairobi",
    "Norway": "Oslo",
    "Peru": "Lima",
    "Turkey": "Ankara",
    "Vietnam": "Hanoi",
    "Morocco": "Rabat",
    "Poland": "Warsaw",
    "Portugal": "Lisbon",
    "Hungary": "Budapest",
    "New Zealand": "Wellington",
    "Egypt": "Cairo",
}
_SCIENCE = {
    "What is the chemical symbol of gold?": "Au",
    "What is the chemical symbol of iron?": "Fe",
    "What is the chemical symbol of sodium?": "Na",
    "What is the chemical symbol of potassium?": "K",
    "Which planet is closest to the Sun?": "Mercury",
    "Which planet is the largest of the solar system?": "Jupiter",
    "Which gas do plants take in for photosynthesis?": "carbon dioxide",
    "Which organ pumps blood through the human body?": "heart",
}
_ARITHMETIC = re.compile(r"(?:what is|compute|calculate)\s+(-?\d{1,9})\s*([-+*x×])\s*(-?\d{1,9})\b", re.I)
_CAPITAL_QUESTION = re.compile(r"capital (?:city )?of ([A-Z][\w ]*?)\s*(?:\?|\.|$)")
_STORIES: tuple[tuple[re.Pattern[str], str, Callable[[int, int, int], int]], ...] = (
    (
        re.compile(r"has (\d+) boxes with (\d+) pencils each and gives away (\d+) pencils"),
        "Mia has {0} boxes with {1} pencils each and gives away {2} pencils. How many pencils are left?",
        lambda boxes, pencils, given: boxes * pencils - given,
    ),
    (
        re.compile(r"drives (\d+) km an hour for (\d+) hours and then (\d+) km more"),
        "A van drives {0} km an hour for {1} hours and then {2} km more. How many kilometres is that?",
        lambda speed, hours, more: speed * hours + more,
    ),
    (
        re.compile(r"buys (\d+) tickets at (\d+) dollars each with (\d+) dollars off"),
        "Ben buys {0} tickets at {1} dollars each with {2} dollars off the total. How many dollars does he pay?",
        lambda tickets, price, off: tickets * price - off,
    ),
)
_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "x": lambda a, b: a * b,
    "×": lambda a, b: a * b,
}


@dataclass(frozen=True, slots=True)
class Solved:
    """The gold answer of a question, its domain, and answers that are wrong but plausible."""

    answer: str
    domain: str
    wrong: tuple[str, ...]


def questions() -> list[tuple[str, str, str]]:
    """(question, gold answer, domain): the whole bank, domains in turn."""
    by_domain: Sequence[list[str]] = (
        [f"What is {17 + 7 * i} {'+-*'[i % 3]} {9 + 5 * i}?" for i in range(16)],
        [
            story.format(3 + i, 12 + 2 * i, 5 + i)
            for i, (_, story, _) in enumerate(_STORIES[j % len(_STORIES)] for j in range(16))
        ],
        [f"What is the capital of {country}?" for country in _CAPITALS],
        list(_SCIENCE),
    )
    bank = []
    for i in range(max(map(len, by_domain))):
        for column in by_domain:
            if i < len(column) and (solved := solve(column[i])) is not None:
                bank.append((column[i], solved.answer, solved.domain))
    return bank


def solve(query: str) -> Solved | None:
    """The known answer, or None. Understands the bank's templates with any numbers in them."""
    for pattern, _, result in _STORIES:
        if match := pattern.search(query):
            a, b, c = (int(number) for number in match.groups())
            return _number(result(a, b, c), WORD_PROBLEM, a * b)
    if match := _ARITHMETIC.search(query):
        left, right = int(match[1]), int(match[3])
        return _number(_OPERATIONS[match[2].lower()](left, right), ARITHMETIC, left + right)
    if (match := _CAPITAL_QUESTION.search(query)) and (capital := _CAPITALS.get(match[1])):
        return Solved(capital, CAPITAL, tuple(city for city in _CAPITALS.values() if city != capital))
    for question, answer in _SCIENCE.items():
        if question.lower().rstrip("?") in query.lower():
            return Solved(answer, SCIENCE, tuple(other for other in _SCIENCE.values() if other != answer))
    return None


def _number(value: int, domain: str, slip: int) -> Solved:
    near = (value + 1, value - 1, value + 10, value - 10, slip)
    return Solved(str(value), domain, tuple(str(wrong) for wrong in near if wrong != value))
