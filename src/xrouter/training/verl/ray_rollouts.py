"""Episodes played by actors of Ray, in many processes or on many machines, without a trainer: demonstrations, evaluations.

In training, episodes are played by verl's own loop workers. These actors play the same ones with replies from anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...dotted import load_callable
from ...messages import Completion, Message, Request
from ..dataset.rows import Sample
from ..router.episode import EpisodeResult, RouterEpisode
from ..router.play import play
from .terms import opened_terms


@dataclass(frozen=True, slots=True)
class PlayedEpisode:
    """result: without the episode itself, which is large. messages: all that the router read and wrote."""

    result: EpisodeResult
    messages: tuple[Message, ...]


class Player:
    """Plays batches of samples; an actor of Ray is one of these.

    terms: the file that `terms.py:write_terms` wrote. replies: dotted path of a `training.router.play.Replies`.
    """

    def __init__(self, terms: str, replies: str) -> None:
        self._terms = opened_terms(terms)
        self._replies = load_callable(replies, setting="replies")

    async def play(self, samples: Sequence[Sample]) -> list[PlayedEpisode]:
        terms = self._terms
        episodes = [
            _Noting(sample, terms.world, terms.model, terms.options, terms.reward) for sample in samples
        ]
        results = await play(episodes, self._replies)
        return [
            PlayedEpisode(replace(result, episode=None), tuple(episode.messages))
            for episode, result in zip(episodes, results, strict=True)
        ]


def play_in_ray(
    terms: Path, samples: Sequence[Sample], replies: str, *, workers: int, batch: int = 32
) -> Iterator[PlayedEpisode]:
    """The samples' episodes in their order, `batch` at a time in each of `workers` actors.

    Joins the cluster that RAY_ADDRESS names or that the caller has joined; where there is neither, Ray starts one here.
    An exception of `replies` ends the run.
    """
    import ray
    from ray.util import ActorPool

    if not ray.is_initialized():
        ray.init()
    actor = ray.remote(Player)
    pool = ActorPool([actor.remote(str(terms.resolve()), replies) for _ in range(workers)])
    batches = [samples[start : start + batch] for start in range(0, len(samples), batch)]
    for played in pool.map(lambda player, some: player.play.remote(some), batches):
        yield from played


class _Noting(RouterEpisode):
    """Keeps the conversation: every request only adds to the one before."""

    messages: tuple[Message, ...] = ()

    async def start(self) -> Request | None:
        return self._noted(await super().start())

    async def reply(self, completion: Completion) -> Request | None:
        self.messages = (*self.messages, completion.message)
        return self._noted(await super().reply(completion))

    def _noted(self, request: Request | None) -> Request | None:
        if request is not None:
            self.messages = request.messages
        return request
