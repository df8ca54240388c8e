"""Graders: what an answer is worth against a known reference, 0..1. Pure functions, safe in threads.

| name       | reference                                  | full marks for                                         |
|------------|--------------------------------------------|--------------------------------------------------------|
| exact      | text                                       | the same answer, case and spacing aside                |
| numeric    | a number                                   | the same number, to one part in a million              |
| choice     | a letter                                   | the same letter                                        |
| math       | LaTeX or plain mathematics                 | an equivalent expression (see `math`)                  |
| json_field | a JSON object                              | equal fields, each its share of 1; others are ignored  |
| tool_call  | {"name", "arguments"}, or a list of those  | exactly these calls, in any order                      |

Code is not graded here: running it needs a sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from ..episodes.answers import extract_answer, normalise
from ..episodes.function_calls import written_calls
from ..episodes.tool_answers import canonical_calls, message_calls
from ..errors import ConfigurationError, DataError
from ..messages import Completion
from .json_text import json_values
from .task import Task

ToolCalls = Sequence[Mapping[str, Any]]
Grader = Callable[[Task, str, ToolCalls], float]

RELATIVE_TOLERANCE = Fraction(1, 1_000_000)
_LAST_NUMBER = re.compile(r"[-−]?\d[\d,]*(?:\.\d+)?(?!.*\d)", re.DOTALL)
_LETTER = re.compile(r"\(?([A-Za-z])(?:[).:]|\s*$)")


def grade(task: Task, completion_text: str, tool_calls: ToolCalls = ()) -> float:
    """The task's grader on one answer: 0..1. Raises ConfigurationError for a grader that does not exist,
    DataError for a reference that it cannot read."""
    return grader_named(task.grader)(task, completion_text, tool_calls)


def grade_completion(task: Task, completion: Completion) -> float:
    return grade(task, completion.text, completion.tool_calls)


def grader_named(name: str) -> Grader:
    """A grader of the table above, or a user's own as module:function."""
    if name in GRADERS:
        return GRADERS[name]
    module, _, function = name.partition(":")
    if not function:
        raise ConfigurationError(
            f"grader {name!r} is not known: it must be one of {', '.join(GRADERS)}, or module:function"
        )
    try:
        found: Grader = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"grader {name!r} cannot be imported: {error}") from error
    return found


def exact(task: Task, text: str, tool_calls: ToolCalls = ()) -> float:
    answer = extract_answer(text, tool_calls, question=task.request.query)
    same_answer = answer is not None and normalise(answer) == normalise(task.reference)
    return float(same_answer or _folded(text) == _folded(task.reference))


def numeric(task: Task, text: str, tool_calls: ToolCalls = ()) -> float:
    wanted = _number(normalise(task.reference))
    if wanted is None:
        raise DataError(f"task {task.id}: reference {task.reference!r} is not a number")
    answer = extract_answer(text, tool_calls, question=task.request.query)
    given = None if answer is None else _last_number(normalise(answer))
    return float(given is not None and abs(given - wanted) <= RELATIVE_TOLERANCE * abs(wanted))


def choice(task: Task, text: str, tool_calls: ToolCalls = ()) -> float:
    wanted = _letter(task.reference)
    if wanted is None:
        raise DataError(f"task {task.id}: reference {task.reference!r} is not an option letter")
    answer = extract_answer(text, tool_calls)
    return float(answer is not None and _letter(answer) == wanted)


def math(task: Task, text: str, tool_calls: ToolCalls = ()) -> float:
    """Equivalence as math-verify sees it; without it, equal numbers or equal strings only.

    `notice('math')` says which of the two it is. math-verify's own time-outs use signals, which only the main
    thread may; they are off, so run it in a process where references are hostile.
    """
    if not math_verify_installed():
        if _number(normalise(task.reference)) is not None and numeric(task, text, tool_calls):
            return 1.0
        return exact(task, text, tool_calls)
    verifier = import_module("math_verify")
    wanted = verifier.parse(f"${task.reference}$", parsing_timeout=None)
    given = verifier.parse(text, parsing_timeout=None)
    return float(bool(verifier.verify(wanted, given, timeout_seconds=None)))


def json_field(task: Task, text: str, tool_calls: ToolCalls = ()) -> float:
    wanted = next(json_values(task.reference), None)
    if not isinstance(wanted, dict) or not wanted:
        raise DataError(f"task {task.id}: reference {task.reference!r} is not a JSON object with fields")
    objects = [value for value in json_values(text) if isinstance(value, dict)]
    if not objects:
        return 0.0
    given = objects[-1]
    return sum(name in given and _same_json(given[name], value) for name, value in wanted.items()) / len(
        wanted
    )


def tool_call(task: Task, text: str, tool_calls: ToolCalls = ()) -> float:
    wanted = written_calls(task.reference, offered=True)
    if not wanted:
        raise DataError(f"task {task.id}: reference {task.reference!r} holds no call with name and arguments")
    given = message_calls(tool_calls) if tool_calls else written_calls(text, offered=True)
    return float(given is not None and canonical_calls(given) == canonical_calls(wanted))


GRADERS: Mapping[str, Grader] = MappingProxyType(
    {
        "exact": exact,
        "numeric": numeric,
        "choice": choice,
        "math": math,
        "json_field": json_field,
        "tool_call": tool_call,
    }
)


def notice(grader: str) -> str | None:
    """What a user should know before trusting this grader's scores; None if nothing."""
    if grader == "math" and not math_verify_installed():
        return (
            "grader 'math': math-verify is not installed, so only equal numbers and equal strings count as right "
            "(pip install math-verify)"
        )
    return None


def math_verify_installed() -> bool:
    return find_spec("math_verify") is not None


def _number(normal_form: str) -> Fraction | None:
    try:
        return Fraction(normal_form)
    except (ValueError, ZeroDivisionError):
        return None


def _last_number(normal_form: str) -> Fraction | None:
    """The number that an answer is, or else the last one in it (x = 42)."""
    number = _number(normal_form)
    if number is not None:
        return number
    found = _LAST_NUMBER.search(normal_form)
    return _number(found[0].replace(",", "").replace("−", "-")) if found else None


def _letter(text: str) -> str | None:
    """The option letter that a text begins with (B, (b), B: Paris), as a capital."""
    match = _LETTER.match(text.strip())
    return match[1].upper() if match else None


def _same_json(left: Any, right: Any) -> bool:
    """Equality of JSON values in which 1 equals 1.0 but not true, at any depth."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same_json(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same_json, left, right))
    return bool(left == right)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split()).removesuffix(".")
