"""What answers while a policy is trained or judged: recordings or live models, behind one interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from ..catalog.model import Model
from ..episodes.episode import Episode
from ..providers.pool import Pool
from .task import Task


@runtime_checkable
class World(Protocol):
    """Pools to call, and what a finished episode's answer is worth. The policy sees only the former."""

    @property
    def models(self) -> Sequence[Model]:
        """All that can be called here."""
        ...

    def knows(self, task: Task) -> bool:
        """Whether calls about this question can be answered."""
        ...

    def pool(self, names: Sequence[str]) -> Pool:
        """These models in this order. Raises ModelNotFoundError for one that does not exist here."""
        ...

    async def quality(self, task: Task, episode: Episode) -> float:
        """Score of the answer handed over, 0..1."""
        ...

    def figures(self) -> Mapping[str, float]:
        """Numbers to log, such as what a run has really paid; none where there is nothing to say."""
        ...

    async def aclose(self) -> None: ...
