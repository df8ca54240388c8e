"""Trivial queries and how their answers count."""

from __future__ import annotations

import pytest

from xrouter.errors import ConfigurationError, DataError
from xrouter.tasks.graders import grade
from xrouter.tasks.sources import load_tasks
from xrouter.tasks.task import Task
from xrouter.tasks.trivial import KINDS, generate, mentions


def test_the_seed_decides_and_nothing_repeats() -> None:
    tasks = generate(300, 1)
    assert tasks == generate(300, 1) != generate(300, 2)
    assert len({task.id for task in tasks}) == 300
    assert {task.dataset for task in tasks} == {f"trivial/{kind}" for kind in KINDS}
    assert load_tasks("trivial:fact,sum", 10, 0) == generate(10, 0, ("fact", "sum"))


def test_it_ends_when_all_are_used_up() -> None:
    assert len(generate(10_000, 0, ("day",))) == 14


def test_every_accepted_word_is_a_right_answer() -> None:
    for task in generate(10_000, 0):
        for word in task.reference.split("|"):
            assert grade(task, word) == grade(task, f"It is {word}.") == 1.0, task
        assert grade(task, "I would rather not say zebra") == 0.0 or "not" in task.reference.split("|")


def test_words_count_whole_and_answers_short() -> None:
    task = Task.of("trivial/fact", "How many legs has a dog?", "xrouter.tasks.trivial:mentions", "4|four")
    assert mentions(task, "**Four**") == 1.0
    assert mentions(task, "fourteen, or 44") == 0.0
    assert mentions(task, "word " * 100 + "four") == 0.0
    assert mentions(task, "four", [{"function": {"name": "count"}}]) == 0.0
    assert mentions(task, "") == 0.0


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ConfigurationError, match="no kind 'riddle'"):
        generate(1, 0, ("riddle",))
    with pytest.raises(DataError, match="holds no words"):
        mentions(Task.of("t", "?", "g", " | "), "x")
