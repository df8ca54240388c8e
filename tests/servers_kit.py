"""PostgreSQL and Redis (or Valkey) on loopback, for the session, each in a folder of its own.

Where their programs are missing they are installed with apt-get if this is root (as in CI); elsewhere the tests that
need them are skipped, with a warning that says so. XROUTER_TESTS_INSTALL=0 keeps the tests from installing anything.
"""

from __future__ import annotations

import functools
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

STARTING_S = 20.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Server:
    """A server program in the foreground; `start` returns once it takes connections."""

    def __init__(self, command: Sequence[str], port: int, *, user: str | None = None) -> None:
        self.port = port
        self._command = command
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, user=self._user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        give_up = time.monotonic() + STARTING_S
        while not self._is_ready():
            assert self._process.poll() is None, f"{self._command[0]} ended with {self._process.returncode}"
            assert time.monotonic() < give_up, f"{self._command[0]} did not start in {STARTING_S} s"
            time.sleep(0.03)

    def stop(self, sign: signal.Signals = signal.SIGINT) -> None:
        if self._process is not None:
            self._process.send_signal(sign)
            self._process.wait(STARTING_S)
            self._process = None

    def freeze(self) -> None:
        """As a host that has gone: connections stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self, away_s: float = 0.0) -> None:
        self.stop()
        time.sleep(away_s)
        self.start()

    def _is_ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


class Postgres(Server):
    def __init__(self, programs: Path, folder: Path, user: str | None) -> None:
        data, port = folder / "data", free_port()
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "xrouter", "--auth=trust", "-E", "UTF8", "--no-sync"],
            user=user,
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )
        options = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": folder,
            "fsync": "off",
            "max_connections": 50,
        }
        flags = [flag for name, value in options.items() for flag in ("-c", f"{name}={value}")]
        super().__init__([str(programs / "postgres"), "-D", str(data), *flags], port, user=user)
        self._ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]

    def emptied(self) -> str:
        """The URL of a database without any books, nor anybody that still uses those of before."""
        import psycopg

        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS books WITH (FORCE)")
            connection.execute("CREATE DATABASE books")
        return self._url("books")

    def _url(self, name: str) -> str:
        return f"postgresql://xrouter@127.0.0.1:{self.port}/{name}"

    def _is_ready(self) -> bool:
        return subprocess.run(self._ready).returncode == 0


class Redis(Server):
    def __init__(self, program: str, folder: Path) -> None:
        port = free_port()
        options = {"port": port, "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "no"}
        super().__init__(
            [program, *(part for name, value in options.items() for part in (f"--{name}", str(value)))], port
        )

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


@contextmanager
def postgres() -> Iterator[Postgres]:
    programs = need("PostgreSQL", postgres_programs, "postgresql")
    user = unprivileged() if os.getuid() == 0 else None
    with folder_of(user) as folder:
        server = Postgres(programs, folder, user)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)


@contextmanager
def redis() -> Iterator[Redis]:
    program = need(
        "Redis", lambda: shutil.which("redis-server") or shutil.which("valkey-server"), "redis-server"
    )
    with folder_of(None) as folder:
        server = Redis(program, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    with redis() as server:
        yield server


def postgres_programs() -> Path | None:
    on_path = shutil.which("initdb")
    folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda name: float(name.split("/")[4]))
    found = [Path(on_path).resolve().parent] if on_path else []
    found += [Path(folder) for folder in reversed(folders) if Path(folder, "initdb").exists()]
    return found[0] if found else None


def need(name: str, find, package: str):
    """What `find` finds, after an installation if need be; otherwise the test is skipped, loudly."""
    found = find()
    if found is None and os.getuid() == 0 and shutil.which("apt-get") and installing():
        failure = install(package)
        found = find()
    else:
        failure = "and installing it takes apt-get and root, and XROUTER_TESTS_INSTALL other than 0"
    if found is None:
        note = f"{name} is not installed ({failure}): what needs it is NOT TESTED; install {package}"
        warnings.warn(note, stacklevel=2)
        pytest.skip(note)
    return found


def installing() -> bool:
    return os.environ.get("XROUTER_TESTS_INSTALL", "1") != "0"


@functools.cache
def install(package: str) -> str:
    """Why it failed, empty where it did not. Tried once a session."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", package]):
        try:
            done = subprocess.run(
                ["apt-get", *command], env=environment, capture_output=True, text=True, timeout=300
            )
        except subprocess.TimeoutExpired:
            return f"apt-get {command[0]} took more than 300 s"
        if done.returncode != 0 and command[0] == "install":
            return f"apt-get install failed: {done.stderr.strip()[-300:]}"
    return ""


def unprivileged() -> str:
    """A user that PostgreSQL may run as: it refuses root."""
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def folder_of(user: str | None) -> Iterator[Path]:
    """A temporary folder that this user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="xrouter-") as name:
        if user is not None:
            shutil.chown(name, user)
        yield Path(name)
