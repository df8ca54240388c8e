"""Episodes played token by token: what was sampled, what was told in between, and what the episode earned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...messages import Completion, Request, Usage
from ..router.episode import EpisodeResult, RouterEpisode
from ..router.play import play
from .chat_template import ChatTemplate
from .replies import completion_of


@dataclass(frozen=True, slots=True)
class Sampled:
    """A reply's tokens with the log-probability at which each was drawn. The last one ended it, or it was cut."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """An episode that waits for a reply to `request`. context: its tokens so far; the first `prompt_length` are its first
    request's. limit: tokens the reply may have."""

    episode: RouterEpisode
    request: Request
    context: Sequence[int]
    prompt_length: int
    limit: int


class Speaker(Protocol):
    """Who replies: the model that is trained, or a teacher."""

    def speak(self, waiting: Sequence[Waiting]) -> Sequence[Sampled]: ...


@dataclass(slots=True)
class Transcript:
    """One episode as one sequence. own: 1 for each completion token that the router said, 0 for what it was told.

    replies: tokens of each reply. logprobs: 0 for what it was told.
    """

    prompt_ids: list[int] = field(default_factory=list)
    completion_ids: list[int] = field(default_factory=list)
    own: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    replies: list[int] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return self.prompt_ids + self.completion_ids

    def say(self, sampled: Sampled) -> None:
        self.completion_ids += sampled.ids
        self.own += [1] * len(sampled.ids)
        self.logprobs += sampled.logprobs
        self.replies.append(len(sampled.ids))

    def tell(self, ids: Sequence[int]) -> None:
        self.completion_ids += ids
        self.own += [0] * len(ids)
        self.logprobs += [0.0] * len(ids)


@dataclass(frozen=True, slots=True)
class Rollout:
    """limit: tokens that its longest allowed reply has."""

    result: EpisodeResult
    transcript: Transcript
    limit: int


async def play_rollouts(
    episodes: Sequence[RouterEpisode], speaker: Speaker, template: ChatTemplate, *, window: int
) -> list[Rollout]:
    """Plays the episodes to their ends, in order. window: tokens that the model takes, replies included.

    Where a conversation has outgrown the window the reply is empty, as if cut at once.
    """
    tracks = [_Track(episode, template, window) for episode in episodes]

    async def replies(requests: Sequence[Request]) -> list[Completion]:
        asked = [track for track in tracks if not track.episode.done]
        waiting = [track.asked(request) for track, request in zip(asked, requests, strict=True)]
        able = [one for one in waiting if one.limit > 0]
        spoken = dict(zip(map(id, able), speaker.speak(able) if able else (), strict=True))
        return [
            track.answered(one, spoken.get(id(one), Sampled((), ())))
            for track, one in zip(asked, waiting, strict=True)
        ]

    results = await play(episodes, replies)
    return [
        Rollout(result, track.transcript, track.limit) for result, track in zip(results, tracks, strict=True)
    ]


class _Track:
    """Keeps one episode's transcript."""

    def __init__(self, episode: RouterEpisode, template: ChatTemplate, window: int) -> None:
        self.episode = episode
        self.transcript = Transcript()
        self.limit = 0
        self._template = template
        self._window = window
        self._last: Request | None = None
        self._ended = True
        self._full = False

    def asked(self, request: Request) -> Waiting:
        transcript = self.transcript
        if self._last is None:
            transcript.prompt_ids = self._template.prompt(request)
        elif not self._full:
            told = self._template.following(self._last, request, ended=self._ended)
            self._full = len(transcript.ids) + len(told) >= self._window
            if not self._full:
                transcript.tell(told)
        self._last = request
        context = transcript.ids
        most = int(request.params.get("max_tokens") or request.params["max_completion_tokens"])
        self.limit = max(self.limit, most)
        room = 0 if self._full else min(most, self._window - len(context))
        return Waiting(self.episode, request, context, len(transcript.prompt_ids), room)

    def answered(self, waiting: Waiting, sampled: Sampled) -> Completion:
        if sampled.ids:
            self.transcript.say(sampled)
        self._ended = bool(sampled.ids) and sampled.ids[-1] in self._template.stop_ids
        said = sampled.ids[:-1] if self._ended else sampled.ids
        usage = Usage(len(waiting.context), len(sampled.ids))
        return completion_of(self._template.text(said), waiting.request, usage, cut=not self._ended)
