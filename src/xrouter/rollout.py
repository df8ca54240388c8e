"""Where a policy meets an environment. Serving and training both pass through here."""

from __future__ import annotations

import time
from collections.abc import Callable

from .deadlines import within
from .episodes.environment import Environment
from .episodes.episode import Episode
from .errors import InvalidActionError
from .policies.policy import Policy

OnDecided = Callable[[str, float], None]
"""Told the policy's name and the seconds that one decision took."""


async def rollout(policy: Policy, environment: Environment, on_decided: OnDecided | None = None) -> Episode:
    """Let `policy` decide until the episode is over.

    Raises EpisodeError (with what was spent) when there is no answer at all. If the policy itself fails its
    error goes on; then, as after a cancellation, `environment.abandoned()` is what is to be booked.
    """
    observation = environment.observation
    while not environment.done:
        started = time.perf_counter()
        try:
            with within(observation.time_left_s) as deadline:
                decision = await policy.act(observation)
        except InvalidActionError as error:
            observation = environment.refuse(error)
        except TimeoutError:
            if not deadline.expired():
                raise
            environment.stop("time_limit", "the deadline passed while the policy was deciding")
        else:
            if on_decided is not None:
                on_decided(policy.name, time.perf_counter() - started)
            observation = await environment.step(decision)
    return environment.episode
