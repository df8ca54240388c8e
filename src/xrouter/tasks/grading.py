"""Grading off the event loop: a model in training writes whatever it likes, and an expression can take hours to compare.

Graders of the product that only compare strings and numbers run at once. The others (math-verify, reasoning-gym, a
user's own) run in processes with a time limit.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import queue
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import ConfigurationError, DataError
from .graders import ToolCalls, grade, math_verify_installed
from .grading_process import READY
from .task import Task

log = logging.getLogger(__name__)

TIME_LIMIT_S = 5.0
"""An honest answer takes milliseconds."""
_AT_ONCE = frozenset({"exact", "numeric", "choice", "json_field", "tool_call"})


class Grading:
    """`processes`: at most so many at a time, each started when it is needed."""

    def __init__(self, *, time_limit_s: float = TIME_LIMIT_S, processes: int = 2) -> None:
        self._time_limit_s = time_limit_s
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="grading")
        self._idle: queue.LifoQueue[_Process] = queue.LifoQueue()

    async def grade(self, task: Task, text: str, tool_calls: ToolCalls = ()) -> float:
        """0..1; 0 for an answer that the grader could not judge in time, which is logged.

        Raises ConfigurationError for a grader that does not exist, DataError where it fails or cannot read the reference.
        """
        if task.grader in _AT_ONCE or (task.grader == "math" and not math_verify_installed()):
            return grade(task, text, tool_calls)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._ask, task, text, tool_calls)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        while not self._idle.empty():
            self._idle.get().close()

    def _ask(self, task: Task, text: str, tool_calls: Sequence[Mapping[str, Any]]) -> float:
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = _Process()
        answer = process.ask(
            {
                "task": _plain(task),
                "text": text,
                "tool_calls": list(tool_calls),
                "time_limit_s": self._time_limit_s,
            }
        )
        if answer is None:
            process.close()
            answer = {"score": 0.0, "gave_up": f"no verdict within {self._time_limit_s:g} s"}
        else:
            self._idle.put(process)
        if "error" in answer:
            raise (ConfigurationError if answer["kind"] == "ConfigurationError" else DataError)(
                answer["error"]
            )
        if "gave_up" in answer:
            log.warning(
                "grader %r gave up on an answer to task %s: %s", task.grader, task.id, answer["gave_up"]
            )
        return float(answer["score"])


class _Process:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.grading_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="backslashreplace",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        if self._line() != READY:
            self.close()
            raise ConfigurationError(
                f"a process that grades could not be started: it ended with status {self._process.returncode}"
            )

    def ask(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """None where the process is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(asked, default=_plain) + "\n")
            self._process.stdin.flush()
        except OSError:
            return None
        line = self._line()
        answer: dict[str, Any] | None = json.loads(line) if line else None
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _plain(value: Any) -> Any:
    if isinstance(value, Task):
        return {
            "id": value.id,
            "dataset": value.dataset,
            "request": list(value.request.messages),
            "grader": value.grader,
            "reference": value.reference,
            "meta": dict(value.meta),
        }
    return dict(value) if isinstance(value, Mapping) else str(value)
