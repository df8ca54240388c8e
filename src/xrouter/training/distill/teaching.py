"""A teacher's decisions as arrays, whatever the teacher was.

Axes: W cost weights, Q queries, M models, E episodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...policies.states import Bools, Floats, Ints
from ...tasks.outcomes import Outcomes


@dataclass(frozen=True, eq=False)
class Teaching:
    """E episodes that a network can follow. query_E: rows of `outcomes`. turn_EM: 1, 2, ... without gaps; 0 = not called.

    answer_from_E: the model whose answer was handed over; -1 where the teacher wrote one itself.
    left_out: why -> how many episodes were not taken.
    """

    outcomes: Outcomes
    query_E: Ints
    weight_E: Floats
    turn_EM: Ints
    answer_from_E: Ints
    left_out: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.query_E)

    def of_queries(self, prompts: frozenset[str]) -> Teaching:
        """The episodes of queries with one of these prompts."""
        wanted = np.array([prompt in prompts for prompt in self.outcomes.recording.prompts], bool)
        rows = wanted[self.query_E]
        return Teaching(
            self.outcomes,
            self.query_E[rows],
            self.weight_E[rows],
            self.turn_EM[rows],
            self.answer_from_E[rows],
            self.left_out,
        )


def teaching(
    outcomes: Outcomes,
    cost_weights: Sequence[float],
    turn_WQM: NDArray[np.int8] | Ints,
    answer_from_WQ: Ints,
    stood_in_WQ: Bools | None = None,
) -> Teaching:
    """stood_in_WQ: where something else decided in the teacher's place; nothing is learnt from that.

    Raises DataError where no episode is left, or the arrays are of other queries or another pool.
    """
    W, Q, M = turn_WQM.shape
    if outcomes.score_QM.shape != (Q, M) or len(cost_weights) != W:
        raise DataError(
            f"decisions on {Q} queries and {M} models do not fit {outcomes.name} with {len(outcomes)} queries and "
            f"{len(outcomes.models)} models"
        )
    stood_in = np.zeros((W, Q), bool) if stood_in_WQ is None else stood_in_WQ
    called = (turn_WQM > 0).any(2)
    kept = called & ~stood_in
    if not kept.any():
        raise DataError(
            "no episode of the teacher's calls a model: a network only chooses whom to call, so there is nothing to learn"
        )
    weight_E, query_E = np.argwhere(kept).T
    return Teaching(
        outcomes=outcomes,
        query_E=query_E,
        weight_E=np.asarray(cost_weights, np.float64)[weight_E],
        turn_EM=without_gaps(turn_WQM[kept]),
        answer_from_E=answer_from_WQ[kept],
        left_out={
            "the teacher called no model": int((~called & ~stood_in).sum()),
            "something else decided in the teacher's place": int(stood_in.sum()),
        },
    )


def without_gaps(turn_EM: NDArray[np.int8] | Ints) -> Ints:
    """Turns counted among those in which something was called: a refused reply uses one up, a network's never is."""
    out = np.zeros(turn_EM.shape, np.int64)
    for number in range(1, int(turn_EM.max(initial=0)) + 1):
        at = turn_EM == number
        before = out.max(1, initial=0)
        out = np.where(at, before[:, None] + 1, out)
    return out
