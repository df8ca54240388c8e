"""One thread writes for many: what arrives while it commits goes into the next commit together."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

MAX_BATCH = 256

Job = TypeVar("Job", bound="Future[Any]")


class GroupWriter(Generic[Job]):
    """`commit` is called on the thread with what waits, up to MAX_BATCH jobs, and resolves every one of them.

    An error that it lets through becomes the error of the jobs that it left open. `close` is called last.
    """

    def __init__(self, name: str, commit: Callable[[Sequence[Job]], None], close: Callable[[], None]) -> None:
        self._commit = commit
        self._close = close
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> bool:
        """Whether the job was taken: a closed writer takes none."""
        with self._lock:
            if not self._closed:
                self._queue.put(job)
            return not self._closed

    async def aclose(self, timeout_s: float | None = None) -> None:
        """Write what is waiting, then close; `timeout_s`: how long to wait for that. A second call does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        await asyncio.to_thread(self._thread.join, timeout_s)

    def _run(self) -> None:
        try:
            last = False
            while not last:
                batch = [self._queue.get()]
                while len(batch) < MAX_BATCH and not self._queue.empty():
                    batch.append(self._queue.get())
                last = None in batch
                jobs = [job for job in batch if job is not None]
                if jobs:
                    self._commit_all(jobs)
        finally:
            self._close()

    def _commit_all(self, jobs: Sequence[Job]) -> None:
        try:
            self._commit(jobs)
        except Exception as error:  # noqa: BLE001 - the thread's boundary: its callers must hear of it, and it lives on
            for job in jobs:
                if not job.done():
                    job.set_exception(error)
