"""What a language model that routes adds to its calls: its tokens' cost, models asked twice, answers in its own words.

Axes: W cost weights, Q queries, M models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..policies.states import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class OwnWork:
    """cost_WQ: US dollars of its decisions. repeats_WQM: calls of a model after its first.

    calls_WQ: each (model, turn from 1) in the order made. text_WQ: the answer in its own words, None where there is none.
    grader_Q: what grades such an answer; score_WQ: what that gave, NaN where there is none.
    stood_in_WQ: something else decided in the language model's place.
    """

    cost_WQ: Floats
    repeats_WQM: Ints
    calls_WQ: tuple[tuple[tuple[tuple[str, int], ...], ...], ...]
    text_WQ: tuple[tuple[str | None, ...], ...]
    grader_Q: tuple[str, ...]
    score_WQ: Floats
    stood_in_WQ: Bools

    @property
    def answered_WQ(self) -> Bools:
        return ~np.isnan(self.score_WQ)

    def line(self, w: int, q: int) -> dict[str, Any]:
        """Its part of a line of decisions.jsonl."""
        calls, text = self.calls_WQ[w][q], self.text_WQ[w][q]
        found: dict[str, Any] = {
            "calls": [model for model, _ in calls],
            "turns": [turn for _, turn in calls],
            "policy_cost_usd": float(self.cost_WQ[w, q]),
        }
        if self.stood_in_WQ[w, q]:
            found["stood_in"] = True
        return found if text is None else {**found, "own_answer": text, "grader": self.grader_Q[q]}
