"""Graders such as a user might bring, good and bad."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from xrouter.tasks.task import Task

Calls = Sequence[Mapping[str, Any]]


def prints(task: Task, text: str, tool_calls: Calls = ()) -> float:
    print("noise")
    os.write(1, b"more noise\n")
    return float(text == task.reference and task.meta["key"] == [1] and task.request.query == "Q?")


def calls(task: Task, text: str, tool_calls: Calls = ()) -> float:
    return len(tool_calls) / 4


def fails(task: Task, text: str, tool_calls: Calls = ()) -> float:
    raise ZeroDivisionError(text)


def hangs_on_long(task: Task, text: str, tool_calls: Calls = ()) -> float:
    if text == "long":
        time.sleep(60)
    return 1.0


def deep(task: Task, text: str, tool_calls: Calls = ()) -> float:
    return deep(task, text)


def process(task: Task, text: str, tool_calls: Calls = ()) -> float:
    return 1.0 / os.getpid()


def dies(task: Task, text: str, tool_calls: Calls = ()) -> float:
    os._exit(3)


def beyond(task: Task, text: str, tool_calls: Calls = ()) -> float:
    return float(text)
