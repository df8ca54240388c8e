"""Many episodes at once, their waiting requests answered a batch at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from ...messages import Completion, Request
from .episode import EpisodeResult, RouterEpisode

Replies = Callable[[Sequence[Request]], Awaitable[Sequence[Completion]]]
"""Answers these requests, in this order; its completions carry the tokens used."""


async def play(episodes: Sequence[RouterEpisode], replies: Replies) -> list[EpisodeResult]:
    """Plays the episodes to their ends; results in the order given. What `replies` raises ends them all and goes on."""
    try:
        requests = await asyncio.gather(*(episode.start() for episode in episodes))
        waiting = [(e, r) for e, r in zip(episodes, requests, strict=True) if r is not None]
        while waiting:
            completions = await replies([request for _, request in waiting])
            following = await asyncio.gather(
                *(episode.reply(c) for (episode, _), c in zip(waiting, completions, strict=True))
            )
            waiting = [(e, r) for (e, _), r in zip(waiting, following, strict=True) if r is not None]
    finally:
        await asyncio.gather(*(episode.aclose() for episode in episodes))
    return [episode.result for episode in episodes]
