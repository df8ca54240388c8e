"""Several gateway processes behind one port, and the process that looks after them.

Each worker has a listening socket of its own on the shared port (SO_REUSEPORT), which this process keeps open: the
kernel spreads connections evenly, and those that wait for a worker that died are served by its successor.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from ..errors import ConfigurationError, XRouterError
from ..observability.workers import worker_ended
from .server import SHUTDOWN_GRACE_S, bind

Ready = Callable[[str], None]
"""Called by a worker once it serves, with what it has to say about itself."""

Work = Callable[[socket.socket, Ready], None]
"""Serves on the socket until SIGTERM."""

MIN_BACKOFF_S = 0.1
MAX_BACKOFF_S = 5.0
STEADY_S = 30.0
"""A worker that served for so long is started again without a delay that grew."""

_KILL_AFTER_S = SHUTDOWN_GRACE_S + 5.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(slots=True)
class _Slot:
    """One worker at a time. `pid` and `ready` are None between two workers, `ready` also once it has been read."""

    number: int
    listener: socket.socket
    pid: int | None = None
    ready: int | None = None
    serves_since: float | None = None
    start_at: float = 0.0
    backoff_s: float = MIN_BACKOFF_S


def listeners(host: str, port: int, workers: int) -> list[socket.socket]:
    """A listening socket for each worker. Where the system does not spread connections they all share one.

    Raises ConfigurationError when the address cannot be had.
    """
    if not hasattr(os, "fork"):
        raise ConfigurationError("several workers need a system with fork(): leave --workers out here")
    first = bind(host, port)
    if not sys.platform.startswith("linux"):
        return [first] * workers
    # The first bind was without SO_REUSEPORT: it fails where another server has the port, instead of sharing it.
    host, port = first.getsockname()[:2]
    first.close()
    return [bind(host, port, shared=True) for _ in range(workers)]


class Supervisor:
    """Starts the workers, starts again those that die, and ends with them.

    `say` shows a line to the user: what the first worker says of itself, and what happens to the others.
    """

    def __init__(self, work: Work, sockets: Sequence[socket.socket], say: Callable[[str], None]) -> None:
        self._work = work
        self._say = say
        self._slots = [_Slot(number, listener) for number, listener in enumerate(sockets, 1)]
        self._announced = False
        self._stopping: float | None = None
        self._exit_code = 0

    def run(self) -> int:
        """Until SIGTERM or SIGINT, then until the workers have finished what they have under way.

        The exit code: not zero where a worker could not start at all. A second signal makes the workers hurry.
        """
        self._alive, keep_alive = os.pipe()
        self._wake, wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake, False)
        self._parent_only = (keep_alive, self._wake, wake)
        before = {sign: signal.signal(sign, lambda *_: None) for sign in (*_SIGNALS, signal.SIGCHLD)}
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        try:
            while self._stopping is None or any(slot.pid for slot in self._slots):
                self._start_due()
                self._wait()
        finally:
            signal.set_wakeup_fd(-1)
            for sign, handler in before.items():
                signal.signal(sign, handler)
            for fd in (*self._parent_only, self._alive):
                os.close(fd)
        return self._exit_code

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in self._slots:
            if self._stopping is None and slot.pid is None and slot.start_at <= now:
                self._start(slot)

    def _start(self, slot: _Slot) -> None:
        ready, write_end = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            for fd in (*self._parent_only, ready, *(other.ready for other in self._slots)):
                if fd is not None:
                    os.close(fd)
            for other in self._slots:
                if other.listener is not slot.listener:
                    other.listener.close()
            _be_worker(self._work, slot.listener, write_end, self._alive)
        os.close(write_end)
        slot.pid, slot.ready, slot.serves_since = pid, ready, None

    def _wait(self) -> None:
        """Until a signal, a worker's word, or the next thing that is due."""
        due = [slot.start_at for slot in self._slots if slot.pid is None and self._stopping is None]
        if self._stopping is not None:
            due.append(self._stopping + _KILL_AFTER_S)
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        waiting = {slot.ready: slot for slot in self._slots if slot.ready is not None}
        readable, _, _ = select.select([self._wake, *waiting], [], [], timeout)
        for fd in readable:
            if fd == self._wake:
                for number in os.read(fd, 1024):
                    if number in _SIGNALS:
                        self._stop()
            else:
                self._hear(waiting[fd])
        if self._stopping is not None and time.monotonic() >= self._stopping + _KILL_AFTER_S:
            self._signal_all(signal.SIGKILL)
        for slot in self._slots:
            if slot.pid is not None:
                pid, status = os.waitpid(slot.pid, os.WNOHANG)
                if pid:
                    worker_ended(pid)
                    self._ended(slot, os.waitstatus_to_exitcode(status))

    def _hear(self, slot: _Slot) -> None:
        assert slot.ready is not None
        with os.fdopen(slot.ready, encoding="utf-8") as pipe:
            words = pipe.read()
        slot.ready = None
        if words:
            slot.serves_since = time.monotonic()
            if not self._announced:
                self._announced = True
                self._say(f"{words}\nworkers {len(self._slots)}")

    def _ended(self, slot: _Slot, code: int) -> None:
        if slot.ready is not None:
            self._hear(slot)
        pid, slot.pid = slot.pid, None
        if self._stopping is not None:
            return
        how = f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
        if slot.serves_since is None and not self._announced:
            self._say(f"worker {slot.number} (process {pid}) {how} before it served: stopping")
            self._exit_code = code if code > 0 else 1
            self._stop()
            return
        steady = slot.serves_since is not None and time.monotonic() - slot.serves_since >= STEADY_S
        slot.backoff_s = MIN_BACKOFF_S if steady else slot.backoff_s
        slot.start_at = time.monotonic() + slot.backoff_s
        self._say(f"worker {slot.number} (process {pid}) {how}: starting another in {slot.backoff_s:g} s")
        slot.backoff_s = min(2 * slot.backoff_s, MAX_BACKOFF_S)

    def _stop(self) -> None:
        """Let the workers finish; the second time, let them drop what is under way."""
        again = self._stopping is not None
        if self._stopping is None:
            self._stopping = time.monotonic()
        self._signal_all(signal.SIGINT if again else signal.SIGTERM)

    def _signal_all(self, sign: signal.Signals) -> None:
        for slot in self._slots:
            if slot.pid is not None:
                os.kill(slot.pid, sign)


def _be_worker(work: Work, listener: socket.socket, ready: int, alive: int) -> NoReturn:
    """The forked process: it never returns into the supervisor's code."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Whatever code is running when it comes, so it must not raise. Once the worker serves, its server has a handler
        # of its own and raises the signal once more when all is finished.
        serving = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: None if serving.is_set() else os._exit(0))
        # Ctrl-C reaches the whole group of a terminal: the supervisor alone is to hear it, and tells its workers once.
        os.setpgid(0, 0)
        threading.Thread(target=_end_with_supervisor, args=(alive,), daemon=True).start()

        def say_ready(words: str) -> None:
            serving.set()
            with os.fdopen(ready, "w", encoding="utf-8") as pipe:
                pipe.write(words)

        work(listener, say_ready)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except XRouterError as error:
        sys.stderr.write(f"xrouter: {error}\n")
        code = 2 if isinstance(error, ConfigurationError) else 1
    except BaseException:  # noqa: BLE001 - the process's boundary: what went wrong is shown, then it ends
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end_with_supervisor(alive: int) -> None:
    """The pipe ends when the supervisor does, however that came."""
    os.read(alive, 1)
    os.kill(os.getpid(), signal.SIGTERM)
