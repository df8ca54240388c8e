"""The cheapest way to a stated probability of a right answer, from any policy that knows lambda and its confidence.

Axes: B episodes, M models.

A policy trained over all lambdas holds a ladder of plans from thrifty to lavish. Each turn takes the thriftiest rung
whose decision does not give up below the target: it hands over an answer that is sure enough, or its calls promise
one. While other calls can still follow, a promise that falls a little short will do: two cheap models that agree often
settle more than either could promise. On the last turn for calls they must promise the target itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import RequestError
from .states import ArrayPolicy, Bools, Choices, Floats, Ints, States

LADDER = (*(float(weight) for weight in np.geomspace(30.0, 1e-3, 14)), 0.0)
"""Lambdas tried, thriftiest first."""
TURNS_TO_ESCALATE = 3
"""Turns left from which calls of this turn can be followed by others: one for these, one for those, one to choose."""
ODDS_GAINED = 1.65
"""The factor by which answers are then trusted to raise the odds of a right one. Chosen on held-out training queries:
more is cheaper but misses targets that were within reach."""
WORTHWHILE = 0.05
"""Where the target is out of reach, a dearer rung must promise this much more. Chosen likewise: with less, hopeless
questions cost a third more and come out no better."""


class TargetQuality:
    """An `ArrayPolicy` around another. Episodes without a target (NaN) are the inner policy's own."""

    def __init__(self, inner: ArrayPolicy) -> None:
        self.inner = inner
        self.name = inner.name
        self.version = inner.version

    def encode(self, queries: Sequence[str]) -> Floats:
        return self.inner.encode(queries)

    def decide(self, text_BD: Floats, states: States) -> Choices:
        """Raises RequestError where a target is asked of a policy that states no confidence."""
        aims = np.flatnonzero(~np.isnan(states.target_quality_B))
        if not len(aims):
            return self.inner.decide(text_BD, states)
        out = _blank(states)
        rest = np.flatnonzero(np.isnan(states.target_quality_B))
        if len(rest):
            _put(out, rest, self.inner.decide(text_BD[rest], states.rows(rest)))
        _put(out, aims, self._climb(text_BD[aims], states.rows(aims)))
        return out

    def _climb(self, text_BD: Floats, states: States) -> Choices:
        """Rung by rung; episodes drop out as they are settled. Where no rung settles one: the most confident call
        of all rungs, or, where none calls any more, the answer at lambda 0, short of the target as it is."""
        out = _blank(states)
        promised_B = np.full(len(states), -1.0)
        open_ = np.arange(len(states))
        for weight in LADDER:
            some = states.rows(open_)
            found = self.inner.decide(
                text_BD[open_], replace(some, cost_weight_B=np.full(len(open_), weight))
            )
            if np.isnan(found.confidence_B).any():
                raise RequestError(
                    f"target_quality needs a policy that states its confidence, and {self.name!r} states none: "
                    "give cost_weight or a preset instead, or serve a learned policy",
                    param="target_quality",
                )
            calls: Bools = np.asarray(found.call_BM.any(1))
            settled = found.confidence_B >= _bar(some, calls)
            better = settled | (calls & (found.confidence_B > promised_B[open_] + WORTHWHILE))
            if weight == LADDER[-1]:
                better |= promised_B[open_] < 0
            _put(out, open_[better], _rows(found, better))
            promised_B[open_[better & calls]] = found.confidence_B[better & calls]
            open_ = open_[~settled]
            if not len(open_):
                break
        return out


def _bar(states: States, calls: Bools) -> Floats:
    """The confidence from which a decision settles its episode's turn."""
    target = states.target_quality_B
    hoped = target / (target + ODDS_GAINED * (1.0 - target))
    return np.where(calls & (states.turns_left_B >= TURNS_TO_ESCALATE), hoped, target)


def _blank(states: States) -> Choices:
    return Choices(
        np.zeros_like(states.allowed_BM), np.full(len(states), -1, np.int64), np.full(len(states), np.nan)
    )


def _rows(choices: Choices, index: Bools) -> Choices:
    return Choices(
        choices.call_BM[index],
        choices.select_B[index],
        choices.confidence_B[index],
        choices.familiar_B[index],
    )


def _put(out: Choices, rows: Ints, part: Choices) -> None:
    """Writes into `out`, whose arrays are its maker's own."""
    out.call_BM[rows] = part.call_BM
    out.select_B[rows] = part.select_B
    out.confidence_B[rows] = part.confidence_B
    out.familiar_B[rows] = part.familiar_B
