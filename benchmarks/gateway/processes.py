"""Server processes: started, watched through /proc, stopped. Linux only."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Launch:
    """How a server is started.

    address: host:port, or a file into which the server writes it once it knows.
    health: path that answers `healthy_status` when the server is ready.
    headers: sent with every request, such as a key.
    """

    argv: Sequence[str]
    address: str | Path
    health: str
    env: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    healthy_status: int = 200


class Server:
    """A running server and all its children."""

    def __init__(self, launch: Launch, log: Path) -> None:
        self._launch = launch
        self._log = log
        self._started = time.perf_counter()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                launch.argv,
                env=dict(launch.env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=log.parent,
            )

    def wait_healthy(self, timeout_s: float = 120.0) -> float:
        """Seconds from the start to the first healthy answer. Raises RuntimeError with the log's end if there is none."""
        while (elapsed := time.perf_counter() - self._started) < timeout_s:
            if self._process.poll() is not None:
                break
            if self._healthy():
                return time.perf_counter() - self._started
            time.sleep(0.01)
        self.stop()
        end = self._log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{self._launch.argv[0]} was not healthy after {elapsed:.0f} s:\n{end}")

    @property
    def address(self) -> str:
        given = self._launch.address
        return given if isinstance(given, str) else given.read_text().strip()

    @property
    def headers(self) -> Mapping[str, str]:
        return self._launch.headers

    def cpu_s(self) -> float:
        """CPU seconds of the whole tree so far, children that have ended included."""
        return sum(_cpu_s(pid) for pid in self.pids())

    def rss_mb(self) -> float:
        """Resident memory of the whole tree, in 10^6 bytes."""
        return sum(_rss_bytes(pid) for pid in self.pids()) / 1e6

    def pids(self) -> list[int]:
        return list(_tree(self._process.pid))

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _healthy(self) -> bool:
        try:
            connection = http.client.HTTPConnection(self.address, timeout=5)
            with contextlib.closing(connection):
                connection.request("GET", self._launch.health)
                return connection.getresponse().status == self._launch.healthy_status
        except (OSError, http.client.HTTPException, ValueError):
            return False


def fsync_ms(folder: Path, times: int = 50) -> float:
    """Median milliseconds until 4 KB appended to a file in this folder are on the disk."""
    durations = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(times):
            file.write(b"x" * 4096)
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            durations.append((time.perf_counter() - started) * 1000)
    return statistics.median(durations)


def parse_cpu_s(stat: str, ticks_per_s: int = _TICKS_PER_S) -> float:
    """CPU seconds from a line of /proc/<pid>/stat: utime, stime, cutime and cstime. See proc_pid_stat(5)."""
    fields = stat.rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / ticks_per_s


def _cpu_s(pid: int) -> float:
    with contextlib.suppress(OSError):
        return parse_cpu_s(Path(f"/proc/{pid}/stat").read_text())
    return 0.0


def _rss_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    return 0


def _tree(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _tree(int(child))
