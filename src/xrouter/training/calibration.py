"""Fits the lines of `policies.calibration`: stated against actual success, on replayed training queries.

Axes: B episodes, S situations.

The trained policy plays recorded queries greedily, each seen through profiles that did not see it, without the noise it was
trained with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..policies.calibration import SITUATIONS, Lines, as_stated, situation_B
from ..policies.features import Prior
from ..policies.network import NetworkPolicy
from ..policies.odds import logit, sigmoid
from ..policies.states import Bools, Choices, Floats, Ints, States
from ..tasks.replay import Replay
from .episodes import TrainingSet

EPISODES = 3000
"""For each set."""
LOWEST, HIGHEST = 1e-3, 300.0
CAUTION = 20.0
"""Episodes' worth of belief that the chances are right as they are."""
STEPS = 30
SMALLEST_STEP = 1e-9


def fit_calibration(policy: NetworkPolicy, sets: Sequence[TrainingSet], max_turns: int, seed: int) -> Lines:
    """Lines [S, 2] for a policy whose own are `as_stated`."""
    rng = np.random.default_rng(seed)
    stated, scored, situations = [], [], []
    for data in sets:
        query_B = rng.integers(0, len(data), EPISODES)
        weight_B = np.exp(rng.uniform(np.log(LOWEST), np.log(HIGHEST), EPISODES))
        replay = Replay(data.outcomes.recording, max_turns)
        number_Q1 = np.arange(len(data), dtype=np.float64)[:, None]
        done = replay.run(_Honest(policy, data), number_Q1, query_B, weight_B)
        stated.append(done.confidence_B)
        scored.append(data.outcomes.scores_of(query_B, done.answer_from_B))
        situations.append(situation_B(done.called_BM.sum(1)))
    stated_B, score_B, situation = (np.concatenate(part) for part in (stated, scored, situations))
    lines = as_stated()
    for s in range(len(SITUATIONS)):
        rows = (situation == s) & (stated_B > 0) & (stated_B < 1)
        lines[s] = fit_line(logit(stated_B[rows]), score_B[rows])
    return lines


def fit_line(logit_B: Floats, score_B: Floats) -> Floats:
    """(intercept, slope) of a logistic regression of scores in 0..1, held towards (0, 1); Newton's method, each step
    halved until the loss falls: where nearly all is right or wrong, whole steps run away."""
    x_B2 = np.column_stack([np.ones_like(logit_B), logit_B])
    start = np.array([0.0, 1.0])

    def loss(line: Floats) -> float:
        at_B = x_B2 @ line
        held = 0.5 * CAUTION * 0.25 * float(((line - start) ** 2).sum())
        return float((np.logaddexp(0.0, at_B) - score_B * at_B).sum()) + held

    line, now = start.copy(), loss(start)
    for _ in range(STEPS):
        p = sigmoid(x_B2 @ line)
        gradient = x_B2.T @ (score_B - p) - CAUTION * 0.25 * (line - start)
        curvature = (x_B2 * (p * (1.0 - p))[:, None]).T @ x_B2 + CAUTION * 0.25 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while loss(line + step) > now and np.abs(step).max() > SMALLEST_STEP:
            step = step / 2.0
        if loss(line + step) > now:
            break
        line = line + step
        now = loss(line)
    return line


class _Honest(NetworkPolicy):
    """The policy on the training set's cross-fitted prior; a query's text features are its number."""

    def __init__(self, policy: NetworkPolicy, data: TrainingSet) -> None:
        super().__init__(policy.encoder, policy.profiles, policy.parameters, policy.payoff)
        self.data = data

    def familiar_B(self, text_BD: Floats) -> Bools:
        return np.ones(len(text_BD), bool)

    def decide(self, text_BD: Floats, states: States) -> Choices:
        # One row on its own would go by the profiles.
        return self.decide_batch(text_BD, states)

    def _prior(self, text_BD: Floats, familiar_B: Bools, states: States) -> Prior:
        query_B: Ints = text_BD[:, 0].astype(np.int64)
        return self.data.prior.rows(query_B)
