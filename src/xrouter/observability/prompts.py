"""Prompts and answers on disk: the only place where xrouter stores content, and off unless a path is given."""

from __future__ import annotations

import fcntl
import logging
import os
import queue
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from ..messages import Request
from .redaction import Redact, redacted

logger = logging.getLogger("xrouter.prompts")

_QUEUE_ENTRIES = 1000


class PromptStore:
    """Appends one JSON line a request to `path`, readable by its owner alone; several workers may share it.

    At `max_bytes` the file becomes `<path>.1`, that one `.2` and so on; `files` old ones are kept. Redaction and
    writing are a thread's work: nothing waits for the disk. What cannot be redacted, or comes faster than it can be
    written, is not stored; the log says so.
    Raises OSError where the file cannot be opened.
    """

    def __init__(self, path: Path, *, redact: Redact | None, max_bytes: int, files: int) -> None:
        self._path = path
        self._redact = redact
        self._max_bytes = max_bytes
        self._files = files
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(self._open())
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(_QUEUE_ENTRIES)
        self._thread = threading.Thread(target=self._run, name="xrouter-prompts", daemon=True)
        self._thread.start()

    def store(
        self,
        request_id: str,
        request: Request,
        completion: Mapping[str, Any] | None,
        *,
        model: str,
        key_id: str | None = None,
    ) -> None:
        """completion: the chat.completion object, None where there is no answer."""
        entry = {
            "at": time.time(),
            "request_id": request_id,
            "key_id": key_id,
            "model": model,
            "messages": request.messages,
            "params": request.params,
            "choices": None if completion is None else completion.get("choices"),
        }
        try:
            self._queue.put_nowait(entry)
        except queue.Full:
            logger.warning("the prompt of %s was not stored: the disk is too slow", request_id)

    def close(self) -> None:
        """Write what waits."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            try:
                self._append(self._line(entry))
            # The boundary of the thread, and to the user's own hook: one entry is lost, the next is written. The
            # error's text may quote the prompt.
            except Exception as error:  # noqa: BLE001
                logger.warning(
                    "the prompt of %s was not stored: %s", entry["request_id"], type(error).__name__
                )

    def _line(self, entry: dict[str, Any]) -> bytes:
        content = {name: redacted(entry[name], self._redact) for name in ("messages", "params", "choices")}
        return orjson.dumps({**entry, **content}, default=str) + b"\n"

    def _append(self, line: bytes) -> None:
        while True:
            file = self._open()
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not self._is_current(file):  # another worker rotated it meanwhile
                    continue
                size = os.fstat(file).st_size
                if size and size + len(line) > self._max_bytes:
                    self._rotate()
                    continue
                while line:
                    line = line[os.write(file, line) :]
                return
            finally:
                os.close(file)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _is_current(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _rotate(self) -> None:
        def old(n: int) -> Path:
            return self._path.with_name(f"{self._path.name}.{n}")

        for n in range(self._files - 1, 0, -1):
            if old(n).exists():
                old(n).replace(old(n + 1))
        self._path.replace(old(1))
