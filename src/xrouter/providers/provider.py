"""The protocol every provider speaks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

from ..catalog.model import Model
from ..messages import Chunk, Completion, Request


@runtime_checkable
class Provider(Protocol):
    """One request in, one completion (or a stream of chunks) out.

    Both raise ProviderError and nothing else on purpose; cancelling the task ends the upstream call.
    `timeout_s` bounds the whole call (for a stream: the wait for each next chunk).
    """

    async def complete(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> Completion: ...

    def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]: ...

    async def aclose(self) -> None: ...
