"""One thread writes for many: what arrives while it commits goes into the next commit together."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

MAX_BATCH = 256

Outcome = TypeVar("Outcome")
J = TypeVar("J", bound="Job[Any]")


class Job(Generic[Outcome]):
    """Something to write, and the promise of its outcome to the task that made it, on the running event loop.

    The writer's thread keeps the promise with `set_result` or `set_exception`; all of one commit are then told at once.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._promise: asyncio.Future[Outcome] = self.loop.create_future()
        self._result: Outcome | None = None
        self._error: BaseException | None = None
        self._kept = False

    async def outcome(self) -> Outcome:
        """To be awaited once. Cancelling the wait does not stop the writing."""
        return await self._promise

    def set_result(self, result: Outcome) -> None:
        self._result, self._kept = result, True

    def set_exception(self, error: BaseException) -> None:
        self._error, self._kept = error, True

    def done(self) -> bool:
        return self._kept

    def tell(self) -> None:
        """On the loop: wake whoever still waits."""
        if self._promise.done():
            return
        if self._error is not None:
            self._promise.set_exception(self._error)
        else:
            self._promise.set_result(self._result)  # type: ignore[arg-type]


class GroupWriter(Generic[J]):
    """`commit` is called on the thread with what waits, up to MAX_BATCH jobs, and resolves every one of them.

    An error that it lets through becomes the error of the jobs that it left open. `close` is called last.
    """

    def __init__(self, name: str, commit: Callable[[Sequence[J]], None], close: Callable[[], None]) -> None:
        self._commit = commit
        self._close = close
        self._queue: queue.SimpleQueue[J | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: J) -> bool:
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

    def _commit_all(self, jobs: Sequence[J]) -> None:
        try:
            self._commit(jobs)
        except Exception as error:  # noqa: BLE001 - the thread's boundary: its callers must hear of it, and it lives on
            for job in jobs:
                if not job.done():
                    job.set_exception(error)
        by_loop: dict[asyncio.AbstractEventLoop, list[J]] = {}
        for job in jobs:
            by_loop.setdefault(job.loop, []).append(job)
        for loop, told in by_loop.items():
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_tell, told)


def _tell(jobs: Sequence[Job[Any]]) -> None:
    for job in jobs:
        job.tell()
