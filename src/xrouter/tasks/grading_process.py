"""A process that grades, one JSON line in, one out: what takes too long can be ended here, which a thread cannot.

    {"task": {...}, "text": "...", "tool_calls": [...], "time_limit_s": 10}  ->  {"score": 1.0}

It says `ready` first, once all that is slow to load is there. A grader that runs out of time takes the process with it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
from typing import Any

from ..errors import ConfigurationError, DataError
from ..messages import Request
from .graders import ToolCalls, grade, grader_named, math_verify_installed
from .task import Task

READY = "ready"


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks decides when this ends
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out, open(os.devnull, "w") as nowhere:
        os.dup2(2, 1)  # what a grader prints must not get among the scores
        if math_verify_installed():
            grade(Task.of("", "", "math", "1"), "1")
        print(READY, file=out, flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            task = Task(**{**asked["task"], "request": Request(tuple(asked["task"]["request"]))})
            try:
                grader_named(task.grader)  # a user's own is imported once, and that may take a while
                faulthandler.dump_traceback_later(asked["time_limit_s"], exit=True, file=nowhere)
                answer = graded(task, asked["text"], asked["tool_calls"])
                faulthandler.cancel_dump_traceback_later()
            except ConfigurationError as error:
                answer = _error(error)
            print(json.dumps(answer), file=out, flush=True)


def graded(task: Task, text: str, tool_calls: ToolCalls) -> dict[str, Any]:
    try:
        score = float(grade(task, text, tool_calls))
        if not 0 <= score <= 1:
            raise DataError(
                f"grader {task.grader!r} gave {score} on task {task.id}: it must be a number from 0 to 1"
            )
        return {"score": score}
    except (ConfigurationError, DataError) as error:
        return _error(error)
    except (RecursionError, MemoryError) as error:
        return {"score": 0.0, "gave_up": type(error).__name__}
    except Exception as error:  # noqa: BLE001 - the process's boundary: graders may be a user's own
        name = type(error).__name__
        return _error(DataError(f"grader {task.grader!r} failed on task {task.id}: {name}"))


def _error(error: ConfigurationError | DataError) -> dict[str, Any]:
    return {"error": error.message, "kind": type(error).__name__}


if __name__ == "__main__":
    main()
