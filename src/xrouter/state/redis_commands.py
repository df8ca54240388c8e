"""Commands to Redis on one connection: those that arrive while others are under way go out together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis.asyncio import Redis

MAX_BATCH = 256

Command = Sequence[Any]


class Commands:
    """`scripts`: the sources of what is called by EVALSHA; the server forgets them when it restarts."""

    def __init__(self, client: Redis, scripts: Sequence[str], timeout_s: float) -> None:
        self._client = client
        self._scripts = scripts
        self._timeout_s = timeout_s
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def ask(self, *command: Any) -> Any:
        """The server's answer. Raises RedisError, OSError or TimeoutError.

        Once begun, a command is carried out even if the wait is cancelled.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        return await answer

    async def aclose(self) -> None:
        """Send what is waiting, then close."""
        if self._sender is not None:
            await asyncio.wait({self._sender})
        await self._client.aclose()

    async def _send(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                results = await self._results([command for command, _ in batch])
                for (_, answer), result in zip(batch, results, strict=True):
                    if answer.done():
                        continue
                    if isinstance(result, Exception):
                        answer.set_exception(result)
                    else:
                        answer.set_result(result)
        finally:
            self._sender = None

    async def _results(self, commands: Sequence[Command]) -> list[Any]:
        from redis.exceptions import NoScriptError, RedisError

        try:
            async with asyncio.timeout(self._timeout_s):
                results = await self._together(commands)
                lost = [i for i, result in enumerate(results) if isinstance(result, NoScriptError)]
                if lost:
                    await self._together([("SCRIPT LOAD", script) for script in self._scripts])
                    again = await self._together([commands[i] for i in lost])
                    for i, result in zip(lost, again, strict=True):
                        results[i] = result
                return results
        except (RedisError, OSError, TimeoutError) as error:
            return [error] * len(commands)

    async def _together(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return list(await pipeline.execute(raise_on_error=False))
