"""Arithmetic made up from a seed: word problems, expressions, comparisons. Needs no data.

Word problems and expressions are worded so that simulated models understand them; comparisons they do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from ..errors import ConfigurationError
from .task import Task

NAMES = ("Ada", "Ben", "Chi", "Dana", "Emil", "Farah", "Goran", "Hana")


def generate(n: int, seed: int, only: Sequence[str] = ()) -> list[Task]:
    """`n` different tasks, the kinds in turn; the first k of them are the same for every n >= k.

    only: kinds to draw from (word, expression, comparison); empty = all. Raises ConfigurationError for
    another kind.
    """
    unknown = [kind for kind in only if kind not in KINDS]
    if unknown:
        raise ConfigurationError(f"arithmetic has no kind {unknown[0]!r}; it has {', '.join(KINDS)}")
    kinds = tuple(only) or tuple(KINDS)
    rng = Random(seed)
    tasks: dict[str, Task] = {}
    while len(tasks) < n:
        kind = kinds[len(tasks) % len(kinds)]
        prompt, grader, reference = KINDS[kind](rng)
        task = Task.of(f"arithmetic/{kind}", prompt, grader, reference)
        tasks.setdefault(task.id, task)
    return list(tasks.values())


def _word(rng: Random) -> tuple[str, str, str]:
    boxes, each = rng.randint(3, 40), rng.randint(6, 90)
    gave = rng.randint(1, boxes * each)
    prompt = (
        f"{rng.choice(NAMES)} has {boxes} boxes with {each} pencils each and gives away {gave} pencils. "
        "How many pencils are left?"
    )
    return prompt, "numeric", str(boxes * each - gave)


def _expression(rng: Random) -> tuple[str, str, str]:
    sign = rng.choice("+-*")
    a, b = (
        (rng.randint(11, 99), rng.randint(11, 99))
        if sign == "*"
        else (rng.randint(100, 9999), rng.randint(100, 9999))
    )
    value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    return f"What is {a} {sign} {b}?", "numeric", str(value)


def _comparison(rng: Random) -> tuple[str, str, str]:
    a, b = rng.randint(11, 99), rng.randint(11, 99)
    product = a * b
    other = product + rng.choice((-1, 1)) * rng.randint(1, 90)
    sides = [(f"{a} * {b}", product), (str(other), other)]
    rng.shuffle(sides)
    larger = "A" if sides[0][1] > sides[1][1] else "B"
    prompt = f"Which is larger? A: {sides[0][0]}  B: {sides[1][0]}. Answer with the letter alone."
    return prompt, "choice", larger


KINDS: dict[str, Callable[[Random], tuple[str, str, str]]] = {
    "word": _word,
    "expression": _expression,
    "comparison": _comparison,
}
