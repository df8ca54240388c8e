"""Episodes that scripts play on the train split, as token sequences to learn from."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from ...errors import ConfigurationError
from ...settings_tables.router_llm import RouterLLMSettings
from ..dataset.rows import Sample
from ..router.episode import RouterEpisode
from .chat_template import ChatTemplate
from .rollouts import Rollout, play_rollouts
from .settings import DemonstrationSettings
from .teacher import Script, Teacher, mixed_script, single_scripts

AT_ONCE = 64
"""Questions whose episodes are played together."""


async def demonstrations(
    samples: Sequence[Sample],
    episode_of: Callable[[Sample], RouterEpisode],
    template: ChatTemplate,
    options: RouterLLMSettings,
    settings: DemonstrationSettings,
    *,
    window: int,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Rollout]:
    """`count` episodes over samples in random order, again from the start where there are fewer of them.

    Raises ConfigurationError where a script's episode fits no window, so that the model would learn a broken one.
    """
    draw = random.Random(f"demonstrations {seed}")
    order = list(samples)
    draw.shuffle(order)
    chosen = [order[i % len(order)] for i in range(settings.count)]
    informed = [i < round(settings.informed_share * settings.count) for i in range(settings.count)]
    draw.shuffle(informed)
    made: list[Rollout] = []
    for start in range(0, len(chosen), AT_ONCE):
        episodes: list[RouterEpisode] = []
        scripts: dict[int, Script] = {}
        sizes: list[int] = []
        for sample, knows in zip(chosen[start:], informed[start : start + AT_ONCE], strict=False):
            pool = episode_of(sample).observation.pool
            several = single_scripts(sample, pool) if knows else [mixed_script(sample, pool, draw)]
            sizes.append(len(several))
            for script in several:
                episodes.append(episode_of(sample))
                scripts[id(episodes[-1])] = script
        played = await play_rollouts(episodes, Teacher(scripts, template, options), template, window=window)
        for size in sizes:
            best = max(played[:size], key=lambda rollout: rollout.result.reward)
            played = played[size:]
            made.append(_fitting(best, window))
            progress(len(made))
    return made


def _fitting(rollout: Rollout, window: int) -> Rollout:
    unsaid = len(rollout.transcript.replies) < rollout.result.turns
    if unsaid or len(rollout.transcript.ids) > window:
        raise ConfigurationError(
            f"a demonstration is longer than the model's window of {window} tokens: lower router.max_response_chars or "
            "the data set's max_prompt_tokens, or use a model with a longer window",
            param="trl.model",
        )
    return rollout
