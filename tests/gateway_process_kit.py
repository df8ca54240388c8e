"""`xrouter serve` in processes of its own, and clients that load it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

POOL = 'pool = ["sim-small", "sim-medium"]\n'


class GatewayProcess:
    """One `xrouter serve`; `lines` is what it has said. Entering waits until it serves."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        settings: str = POOL,
        env: Mapping[str, str] | None = None,
        modules: Sequence[Path] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "xrouter.toml").write_text(settings)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("XROUTER_")}
        self.lines: list[str] = []
        self.url = ""
        self._serving = threading.Event()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "xrouter", "serve", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env={**kept, "HOME": str(folder), "XDG_DATA_HOME": str(folder / "data"), **(env or {})},
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def wait_serving(self) -> None:
        assert self._serving.wait(60), self.lines
        assert self.url, self.lines

    async def wait_line(self, words: str) -> str:
        async with asyncio.timeout(30):
            while not (found := [line for line in self.lines if words in line]):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return found[-1]

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def end(self, sign: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(sign)
        code = self.process.wait(30)
        self._listener.join(30)
        return code

    def __enter__(self) -> GatewayProcess:
        self.wait_serving()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._listener.join(30)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if " at http://" in line:
                self.url = next(word for word in line.split() if word.startswith("http://"))
                self._serving.set()
        self._serving.set()


class Load:
    """Clients that ask as fast as they are answered; `answered`: ids of the episodes whose answers came whole."""

    def __init__(self, *urls: str, clients: int = 8, model: str = "sim-small") -> None:
        self.answered: list[str] = []
        self.refused: list[int] = []
        self.broken = 0
        self._tasks = [
            asyncio.create_task(self._ask(urls[number % len(urls)], model)) for number in range(clients)
        ]

    async def until(self, answers: int) -> None:
        """Until so many more answers have come."""
        wanted = len(self.answered) + answers
        async with asyncio.timeout(30):
            while len(self.answered) < wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(self, url: str, model: str) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    await self._ask_once(session, url, model)
                except (aiohttp.ClientError, ConnectionError):
                    self.broken += 1
                    await asyncio.sleep(0.02)

    async def _ask_once(self, session: aiohttp.ClientSession, url: str, model: str) -> None:
        async with session.post(f"{url}/chat/completions", json=question(model)) as response:
            body = await response.json()
        if response.status == 200:
            self.answered.append(body["id"].removeprefix("chatcmpl-"))
        else:
            self.refused.append(response.status)
            await asyncio.sleep(0.02)


def question(model: str = "sim-small") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "What is 2 + 2?"}]}


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
