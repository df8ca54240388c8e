"""What GRPOTrainer generates: groups of episodes of one question, filled up by dynamic sampling."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..dataset.rows import Sample
from ..router.episode import RouterEpisode
from ..router.metrics import metrics
from .chat_template import ChatTemplate
from .dynamic_sampling import Filled, fill, vary
from .overlong import overlong_penalty
from .rollouts import Rollout, Speaker, play_rollouts
from .settings import TRLSettings


@dataclass(frozen=True, slots=True)
class Group:
    """Episodes of one question. rewards: what training maximises, penalties for long and for bad replies taken off."""

    rollouts: tuple[Rollout, ...]
    rewards: tuple[float, ...]


class GroupGenerator:
    """TRL's `rollout_func`: prompts are numbers of samples, each repeated `group_size` times.

    A group that does not vary and found no other in its place stays for the batch's shape; none of its tokens counts.
    report: gets the figures of all episodes played for a batch, dropped ones included.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        episode_of: Callable[[Sample], RouterEpisode],
        speaker: Speaker,
        template: ChatTemplate,
        settings: TRLSettings,
        runner: asyncio.Runner,
        *,
        window: int,
        report: Callable[[dict[str, float]], None],
    ) -> None:
        self._samples = samples
        self._episode_of = episode_of
        self._speaker = speaker
        self._template = template
        self._settings = settings
        self._runner = runner
        self._window = window
        self._report = report

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, list[Any]]:
        started = time.monotonic()
        size = self._settings.group_size
        first = [self._samples[int(prompt)] for prompt in prompts[::size]]
        filled = self.fill(first, seed=f"{self._settings.seed} {trainer.state.global_step}")
        seconds = time.monotonic() - started
        self._report({**figures_of(filled), "generation_s": seconds})
        return as_trl_wants(filled, self._template.stop_ids[0])

    def fill(self, first: Sequence[Sample], seed: str) -> Filled[Group]:
        seen = {sample.index for sample in first}
        others = [sample for sample in self._samples if sample.index not in seen]
        random.Random(f"dynamic sampling {seed}").shuffle(others)

        def draw(count: int) -> list[Sample]:
            drawn = others[:count]
            del others[:count]
            return drawn

        return fill(
            first,
            self.play,
            draw,
            lambda group: vary(group.rewards, self._settings.reward_tolerance),
            max_batches=self._settings.max_generation_batches,
        )

    def play(self, samples: Sequence[Sample]) -> list[Group]:
        size = self._settings.group_size
        episodes = [self._episode_of(sample) for sample in samples for _ in range(size)]
        playing = play_rollouts(episodes, self._speaker, self._template, window=self._window)
        rollouts = self._runner.run(playing)
        return [self._group(rollouts[start : start + size]) for start in range(0, len(rollouts), size)]

    def _group(self, rollouts: Sequence[Rollout]) -> Group:
        settings = self._settings
        rewards = [
            one.result.reward
            - overlong_penalty(
                one.transcript.replies,
                one.limit,
                buffer=settings.overlong_buffer,
                penalty=settings.overlong_penalty,
            )
            - settings.problem_penalty * sum(one.result.problems.values())
            for one in rollouts
        ]
        return Group(tuple(rollouts), tuple(rewards))


def figures_of(filled: Filled[Group]) -> dict[str, float]:
    """Of every episode played for a batch, and how dynamic sampling went."""
    played = [rollout for group in filled.played for rollout in group.rollouts]
    replies = [tokens for rollout in played for tokens in rollout.transcript.replies]
    return metrics([rollout.result for rollout in played]) | {
        "trained_reward": sum(sum(g.rewards) for g in filled.groups)
        / sum(len(g.rewards) for g in filled.groups),
        "episodes": len(played),
        "generation_batches": filled.batches,
        "groups_varied": filled.varied / len(filled.groups),
        "groups_dropped": 1 - filled.varied / len(filled.played),
        "reply_tokens": sum(replies) / max(1, len(replies)),
        "longest_sequence": max(len(rollout.transcript.ids) for rollout in played),
    }


def as_trl_wants(filled: Filled[Group], stop_id: int) -> dict[str, list[Any]]:
    """Columns of TRL's `rollout_func`; `env_mask` is 1 where a token counts in the loss.

    TRL reads the last token of each completion, so that an episode in which nothing was said gets one that does not count.
    """
    columns: dict[str, list[Any]] = {
        name: [] for name in ("prompt_ids", "completion_ids", "logprobs", "env_mask", "episode_reward")
    }
    for number, group in enumerate(filled.groups):
        for rollout, reward in zip(group.rollouts, group.rewards, strict=True):
            transcript = rollout.transcript
            silent = not transcript.completion_ids
            counts = transcript.own if number < filled.varied else [0] * len(transcript.own)
            columns["prompt_ids"].append(transcript.prompt_ids or [stop_id])
            columns["completion_ids"].append([stop_id] if silent else transcript.completion_ids)
            columns["logprobs"].append([0.0] if silent else transcript.logprobs)
            columns["env_mask"].append([0] if silent else counts)
            columns["episode_reward"].append(reward)
    return columns


def episode_reward(*, episode_reward: Sequence[float], **_: Any) -> list[float]:
    """TRL's reward function: what the episodes earned is known already."""
    return list(episode_reward)
