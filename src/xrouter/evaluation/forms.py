"""The preferences beside lambda, judged on the same checkpoint: a target quality, and a cap on the cost.

Axes: Q queries, R resamples. Decisions are made from the recording; scores are joined to them afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..policies.states import ArrayPolicy, Floats
from ..tasks.outcomes import Outcomes
from ..tasks.replay import Replay
from .bootstrap import Interval, interval, resampled_means
from .result import CapPoint, TargetPoint

CAP_WEIGHT = 0.0
"""Lambda under a cap: the best answer that the money buys."""


def target_points(
    policy: ArrayPolicy, test: Outcomes, targets: Sequence[float], max_turns: int, weights_RQ: Floats
) -> tuple[TargetPoint, ...]:
    """One point a target. Raises RequestError for a policy without confidence."""
    if not targets:
        return ()
    replay, text_QD = Replay(test.recording, max_turns), policy.encode(test.recording.prompts)
    query_Q = np.arange(len(test))
    points = []
    for target in targets:
        same = np.full(len(test), target)
        played = replay.run(policy, text_QD, query_Q, np.zeros(len(test)), target_quality_B=same)
        score_Q = test.scores_of(query_Q, played.whole_answer_from_B)
        reached_Q = (played.confidence_B >= target) & (played.answer_from_B >= 0)
        points.append(
            TargetPoint(
                target_quality=target,
                score=_mean(score_Q, weights_RQ),
                confidence=float(played.confidence_B.mean()),
                cost_usd=_mean(played.cost_B, weights_RQ),
                calls_per_query=float(played.called_BM.sum(1).mean()),
                missed=float(1.0 - reached_Q.mean()),
                score_where_reached=float(score_Q[reached_Q].mean()) if reached_Q.any() else float("nan"),
            )
        )
    return tuple(points)


def cap_points(
    policy: ArrayPolicy, test: Outcomes, caps_usd: Sequence[float], max_turns: int, weights_RQ: Floats
) -> tuple[CapPoint, ...]:
    """One point a cap, in US dollars a query."""
    if not caps_usd:
        return ()
    replay, text_QD = Replay(test.recording, max_turns), policy.encode(test.recording.prompts)
    query_Q = np.arange(len(test))
    points = []
    for cap in caps_usd:
        weight_Q, cap_Q = np.full(len(test), CAP_WEIGHT), np.full(len(test), cap)
        played = replay.run(policy, text_QD, query_Q, weight_Q, max_cost_usd_B=cap_Q)
        points.append(
            CapPoint(
                max_cost_usd=cap,
                score=_mean(test.scores_of(query_Q, played.whole_answer_from_B), weights_RQ),
                cost_usd=_mean(played.cost_B, weights_RQ),
                largest_cost_usd=float(played.cost_B.max()),
                calls_per_query=float(played.called_BM.sum(1).mean()),
                unanswered=float((played.whole_answer_from_B < 0).mean()),
            )
        )
    return tuple(points)


def _mean(values_Q: Floats, weights_RQ: Floats) -> Interval:
    return interval(float(values_Q.mean()), resampled_means(weights_RQ, values_Q[None])[:, 0])
