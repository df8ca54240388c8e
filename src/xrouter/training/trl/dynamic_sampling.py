"""DAPO's dynamic sampling (arXiv 2503.14476, section 3.2): groups that teach nothing are replaced by others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Q = TypeVar("Q")
G = TypeVar("G")


@dataclass(frozen=True, slots=True)
class Filled(Generic[G]):
    """groups: as many as were wanted, those that vary first. varied: how many of them do. played: all, the dropped ones too.

    batches: how often questions were drawn.
    """

    groups: tuple[G, ...]
    varied: int
    played: tuple[G, ...]
    batches: int


def vary(rewards: Sequence[float], tolerance: float) -> bool:
    """Whether the rewards differ. On rewards and not on scores: where all are right, costs still teach."""
    return max(rewards) - min(rewards) > tolerance


def fill(
    questions: Sequence[Q],
    play: Callable[[Sequence[Q]], Sequence[G]],
    draw: Callable[[int], Sequence[Q]],
    varies: Callable[[G], bool],
    *,
    max_batches: int,
) -> Filled[G]:
    """Plays the questions, and others in place of those whose group does not vary, in `max_batches` batches at most.

    play: questions -> a group of each. draw: so many other questions, fewer where there are no more.
    """
    wanted, kept, dropped, batches = len(questions), list[G](), list[G](), 0
    while questions:
        batches += 1
        for group in play(questions):
            (kept if varies(group) else dropped).append(group)
        missing = wanted - len(kept)
        questions = draw(missing) if missing > 0 and batches < max_batches else ()
    kept_now = kept[:wanted]
    spare = dropped[: wanted - len(kept_now)]
    return Filled((*kept_now, *spare), len(kept_now), (*kept, *dropped), batches)
