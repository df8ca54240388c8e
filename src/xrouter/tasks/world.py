"""What answers while a policy is trained or judged: recordings or live models, behind one interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ..episodes.episode import Episode
from ..providers.pool import Pool
from .task import Task


@runtime_checkable
class World(Protocol):
    """Pools to call, and what a finished episode's answer is worth. The policy sees only the former."""

    def pool(self, names: Sequence[str]) -> Pool:
        """These models in this order. Raises ModelNotFoundError for one that does not exist here."""
        ...

    def quality(self, task: Task, episode: Episode) -> float:
        """Score of the answer handed over, 0..1."""
        ...

    async def aclose(self) -> None: ...
