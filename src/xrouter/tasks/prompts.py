"""A user's own prompts: a JSONL file, one task a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, DataError
from ..messages import Request
from .graders import GRADERS, grade
from .task import Task, task_id

FIELDS = ("prompt", "reference", "grader", "id", "dataset")
REQUIRED = FIELDS[:3]
SHOWN = 10


def read_tasks(path: Path) -> list[Task]:
    """Lines of {"prompt", "reference", "grader"} and, if wanted, "id" and "dataset"; blank lines are skipped.

    Raises DataError naming every bad line by its number (the first ten of them), ConfigurationError where the
    file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"tasks file {path} cannot be read: {error}") from error
    tasks: list[Task] = []
    faults: list[str] = []
    first_line: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            task = _task(line, path.stem)
        except DataError as error:
            faults.append(f"line {number}: {error}")
            continue
        earlier = first_line.setdefault(task.id, number)
        if earlier != number:
            faults.append(
                f"line {number}: the same id or prompt as line {earlier}; give it an 'id' of its own"
            )
        tasks.append(task)
    if faults:
        more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise DataError("\n  ".join([f"{path} does not fit:", *faults[:SHOWN]]) + more)
    if not tasks:
        raise DataError(f"{path} holds no tasks: each line is a JSON object with {', '.join(REQUIRED)}")
    return tasks


def _task(line: str, stem: str) -> Task:
    fields = _fields(line)
    dataset = fields.get("dataset", stem)
    task = Task(
        id=fields.get("id") or task_id(dataset, fields["prompt"]),
        dataset=dataset,
        request=Request.from_text(fields["prompt"]),
        grader=fields["grader"],
        reference=fields["reference"],
    )
    grade(task, "")  # raises DataError for a reference that the grader cannot read
    return task


def _fields(line: str) -> dict[str, str]:
    try:
        raw: Any = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"not JSON ({error})") from error
    if not isinstance(raw, dict):
        raise DataError(f"a JSON object is due, not {type(raw).__name__}")
    missing = [name for name in REQUIRED if name not in raw]
    if missing:
        raise DataError(f"field {missing[0]!r} is missing")
    unknown = [name for name in raw if name not in FIELDS]
    if unknown:
        raise DataError(f"field {unknown[0]!r} is not known; the fields are {', '.join(FIELDS)}")
    if isinstance(raw["reference"], (int, float, dict, list)) and not isinstance(raw["reference"], bool):
        raw["reference"] = json.dumps(raw["reference"])
    for name, value in raw.items():
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"field {name!r} must be text that is not empty, got {value!r}")
    if raw["grader"] not in GRADERS:
        raise DataError(f"grader {raw['grader']!r} is not one of {', '.join(GRADERS)}")
    return raw
