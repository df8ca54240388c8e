"""Tasks of the reasoning-gym generators (pip install reasoning-gym), graded by reasoning-gym itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from ..episodes.answers import extract_answer
from ..errors import ConfigurationError
from .task import Task

DEFAULT = ("basic_arithmetic", "chain_sum", "leg_counting", "gsm_symbolic", "letter_counting", "syllogism")

UNGRADABLE = frozenset({"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"})
"""Generators whose own gold answers do not score 1.0."""


def generate(n: int, seed: int, only: Sequence[str] = ()) -> list[Task]:
    """`n` tasks, drawn evenly from the generators named in `only` (empty = a small default set).

    Raises ConfigurationError where reasoning-gym is missing, or a generator is unknown or cannot be graded.
    """
    gym = _gym()
    names = tuple(only) or DEFAULT
    for name in names:
        if name in UNGRADABLE:
            raise ConfigurationError(f"reasoning-gym's {name!r} does not give its own answers full marks")
    tasks: dict[str, Task] = {}
    for k, name in enumerate(names):
        size = n // len(names) + (k < n % len(names))
        if not size:
            continue
        try:
            dataset = gym.create_dataset(name, size=size, seed=seed)
        except ValueError as error:
            raise ConfigurationError(f"reasoning-gym has no generator {name!r}: {error}") from error
        for entry in dataset:
            task = Task.of(
                f"reasoning_gym/{name}",
                entry["question"],
                f"{__name__}:score",
                str(entry["answer"]),
                {"generator": name, "entry": entry},
            )
            tasks.setdefault(task.id, task)
    return list(tasks.values())


def score(task: Task, text: str, tool_calls: Sequence[Mapping[str, Any]] = ()) -> float:
    """The better of the scores of the whole text and of the answer found in it, 0..1."""
    grader = _gym().get_score_answer_fn(task.meta["generator"])
    candidates = [text.strip()]
    answer = extract_answer(text, tool_calls, question=task.request.query)
    if answer is not None:
        candidates.append(answer)
    best = max(float(grader(answer=candidate, entry=task.meta["entry"])) for candidate in candidates)
    return min(max(best, 0.0), 1.0)


def _gym() -> Any:
    try:
        return import_module("reasoning_gym")
    except ImportError as error:
        raise ConfigurationError(
            "tasks 'reasoning_gym' need the package reasoning-gym: pip install reasoning-gym"
        ) from error
