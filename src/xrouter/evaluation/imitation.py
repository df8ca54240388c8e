"""How close a distilled network comes to its teacher: the same decisions, and what the difference costs.

Axes: W cost weights, Q queries, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ConfigurationError
from ..policies.states import Bools
from ..tasks.outcomes import Outcomes
from .bootstrap import Floats, Interval, interval, resampled_means, resamples
from .decisions import Decisions


@dataclass(frozen=True)
class Agreement:
    """Shares of the queries. first: the same models in the first turn; calls: the same models in all; answer: the same
    model's answer handed over; all: calls turn by turn and the answer."""

    first: Interval
    calls: Interval
    answer: Interval
    all: Interval


@dataclass(frozen=True)
class Difference:
    """One policy less the teacher at one cost weight, query by query: score, and US dollars a query."""

    cost_weight: float
    score: Interval
    cost_usd: Interval


def agreement(teacher: Decisions, other: Decisions, bootstrap: int, seed: int) -> Agreement:
    """Over all cost weights together; queries are resampled. Raises ConfigurationError where the two do not match."""
    _matching(teacher, other)
    draws_RQ = resamples(len(teacher.query_ids), bootstrap, seed)
    theirs, ours = _ranked(teacher), _ranked(other)

    def share(same_WQ: Bools) -> Interval:
        mean_Q = same_WQ.mean(0)
        return interval(float(mean_Q.mean()), resampled_means(draws_RQ, mean_Q[None])[:, 0])

    same_answer = (teacher.answer_from_WQ == other.answer_from_WQ) & (
        _own_words(teacher) == _own_words(other)
    )
    return Agreement(
        first=share(((theirs == 1) == (ours == 1)).all(2)),
        calls=share(((theirs > 0) == (ours > 0)).all(2)),
        answer=share(same_answer),
        all=share((theirs == ours).all(2) & same_answer),
    )


def differences(
    teacher: Decisions, other: Decisions, test: Outcomes, bootstrap: int, seed: int
) -> tuple[Difference, ...]:
    """Paired: the same resamples of the queries for both."""
    _matching(teacher, other)
    draws_RQ = resamples(len(test), bootstrap, seed)
    score_WQ = other.score_WQ(test.score_QM) - teacher.score_WQ(test.score_QM)
    cost_WQ = other.cost_WQ(test.recording.cost_QM) - teacher.cost_WQ(test.recording.cost_QM)

    def of(values_Q: Floats) -> Interval:
        return interval(float(values_Q.mean()), resampled_means(draws_RQ, values_Q[None])[:, 0])

    return tuple(
        Difference(weight, of(score_WQ[w]), of(cost_WQ[w])) for w, weight in enumerate(teacher.cost_weights)
    )


def _matching(teacher: Decisions, other: Decisions) -> None:
    for name in ("models", "query_ids", "cost_weights"):
        if getattr(teacher, name) != getattr(other, name):
            raise ConfigurationError(f"the two were not played on the same {name}")


def _ranked(decisions: Decisions) -> Floats:
    """Turns counted among those in which something was called."""
    turn_WQM = decisions.turn_WQM.astype(np.int64)
    out = np.zeros(turn_WQM.shape)
    for number in range(1, int(turn_WQM.max(initial=0)) + 1):
        before = out.max(2, initial=0.0)
        out = np.where(turn_WQM == number, before[:, :, None] + 1, out)
    return out


def _own_words(decisions: Decisions) -> Bools:
    if decisions.own is None:
        return np.zeros(decisions.answer_from_WQ.shape, bool)
    return decisions.own.answered_WQ
