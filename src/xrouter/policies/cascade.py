"""Fixed cascades with agreement: ask two models at once; if their answers agree take it, else ask a third.

Axes: B episodes, M models of the pool, N models fitted on, Q training queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .baselines import VERSION, ask_best, columns_of, list_price_BM, no_features
from .states import Bools, Choices, Floats, Ints, States

Triple = tuple[int, int, int]
LEAST_COVERAGE = 0.9
"""A triple is considered where all three answered at least this share of the training queries."""


def cascade_choices(triple_B3: Ints, states: States) -> Choices:
    """One decision of each cascade (first, second, third), by columns of the pool.

    An answer that cannot be read agrees with nothing. With one turn in all, the third alone is asked; on the last
    turn nothing is asked once there is a response. Where calls failed, what came back is handed over.
    """
    rows = np.arange(len(states))
    first, second, third = triple_B3.T
    responded, answer = states.responded_BM, states.answer_BM
    agree = (
        responded[rows, first]
        & responded[rows, second]
        & (answer[rows, first] >= 0)
        & (answer[rows, first] == answer[rows, second])
    )
    some, last = responded.any(1), states.turns_left_B <= 1
    third_is_back = responded[rows, third]
    ends = some & (agree | third_is_back | last | ~states.allowed_BM[rows, third])
    preferred = np.where(third_is_back & ~agree, third, np.where(responded[rows, first], first, second))
    preferred = np.where(responded[rows, preferred], preferred, responded.argmax(1))

    call_BM = np.zeros_like(states.allowed_BM)
    opening = ~some & ~last & ~states.failed_BM.any(1)
    call_BM[rows[opening], first[opening]] = True
    call_BM[rows[opening], second[opening]] = True
    later = ~opening & ~ends
    call_BM[rows[later], third[later]] = True
    call_BM &= states.allowed_BM
    stuck = ~ends & ~call_BM.any(1)
    call_BM[stuck] = ask_best(list_price_BM(states), states).call_BM[stuck]
    return Choices(call_BM, np.where(ends, preferred, -1), np.full(len(states), np.nan))


@dataclass(frozen=True)
class AgreementCascade:
    """One fixed triple, by model names. A model that is not in the pool is replaced by the nearest in list price
    of those that are (by the dearest where the pool does not know it).
    """

    first: str
    second: str
    third: str
    name: str = "cascade"
    version: str = VERSION

    def encode(self, queries: Sequence[str]) -> Floats:
        return no_features(queries)

    def decide(self, text_BD: Floats, states: States) -> Choices:
        in_pool = states.allowed_BM | states.responded_BM | states.failed_BM
        log_price = np.log(list_price_BM(states) + 1e-12)
        triple = []
        for wanted in (self.first, self.second, self.third):
            is_wanted_M = columns_of((wanted,), states.models) >= 0
            goal = log_price[:, is_wanted_M].max(1, initial=-np.inf)
            goal = np.where(np.isfinite(goal), goal, log_price.max(1))
            distance = np.where(is_wanted_M, -1.0, np.abs(log_price - goal[:, None]))
            triple.append(np.where(in_pool, distance, np.inf).argmin(1))
        return cascade_choices(np.stack(triple, 1), states)


@dataclass(frozen=True, eq=False)
class CascadeTable:
    """Train mean score and cost (US dollars a query) of every triple; -inf score where it cannot be used."""

    score_NNN: Floats
    cost_NNN: Floats

    def best(self, cost_weight: float, reference_cost: float, usable_N: Bools | None = None) -> Triple | None:
        """argmax(score - lambda * cost / reference cost) over triples of usable models; None where there is none."""
        value = self.score_NNN - cost_weight * self.cost_NNN / reference_cost
        if usable_N is not None:
            usable = usable_N[:, None, None] & usable_N[None, :, None] & usable_N[None, None, :]
            value = np.where(usable, value, -np.inf)
        at = int(value.argmax())
        if not np.isfinite(value.flat[at]):
            return None
        first, second, third = (int(i) for i in np.unravel_index(at, value.shape))
        return first, second, third


def cascade_table(score_QN: Floats, cost_QN: Floats, answer_QN: Ints, present_QN: Bools) -> CascadeTable:
    """Every ordered triple at once. On agreement the first's answer is the one handed over.

    For each first model, the sums over queries are products [N, Q] x [Q, N]: N * N * N * Q multiplications in
    all, about a second for 70 models and 1,300 queries, so no triple is left out. Means are over the queries
    that all three answered.
    """
    N = score_QN.shape[1]
    present = present_QN.astype(np.float64)
    score = np.where(present_QN, score_QN, 0.0)
    cost = np.where(present_QN, cost_QN, 0.0)
    score_NNN = np.full((N, N, N), -np.inf)
    cost_NNN = np.full((N, N, N), np.inf)
    for first in range(N):
        both_QN = present * present[:, [first]]
        answer = answer_QN[:, [first]]
        agree_QN = both_QN * ((answer >= 0) & (answer_QN == answer))
        differ_QN = both_QN - agree_QN
        queries = both_QN.T @ present
        covered = queries >= LEAST_COVERAGE * len(score)
        total_score = (agree_QN * score[:, [first]]).T @ present + differ_QN.T @ score
        total_cost = (both_QN * (cost[:, [first]] + cost)).T @ present + differ_QN.T @ cost
        np.divide(total_score, queries, out=score_NNN[first], where=covered)
        np.divide(total_cost, queries, out=cost_NNN[first], where=covered)
        score_NNN[first, first, :] = -np.inf
        score_NNN[first, :, first] = -np.inf
        np.fill_diagonal(score_NNN[first], -np.inf)
    cost_NNN[~np.isfinite(score_NNN)] = 0.0
    return CascadeTable(score_NNN, cost_NNN)


def fit_cascade(
    score_QN: Floats,
    cost_QN: Floats,
    answer_QN: Ints,
    present_QN: Bools,
    cost_weight: float,
    reference_cost: float,
) -> Triple | None:
    """The best fixed triple at one lambda, by exhaustive search. Costs in US dollars; None below three models."""
    return cascade_table(score_QN, cost_QN, answer_QN, present_QN).best(cost_weight, reference_cost)


@dataclass(frozen=True, eq=False)
class BestCascade:
    """The triple that was best on train at the caller's lambda, among those the pool holds.

    Where it holds no triple, the one model with the highest train score.
    """

    models: tuple[str, ...]
    table: CascadeTable
    mean_score_N: Floats
    reference_cost: float
    name: str = "cascade"
    version: str = VERSION

    @classmethod
    def fit(
        cls,
        models: tuple[str, ...],
        score_QN: Floats,
        cost_QN: Floats,
        answer_QN: Ints,
        present_QN: Bools,
        reference_cost: float,
    ) -> BestCascade:
        """score_QN may be NaN where not present; costs in US dollars."""
        table = cascade_table(score_QN, cost_QN, answer_QN, present_QN)
        mean_score_N = np.where(present_QN, score_QN, 0.0).sum(0) / np.maximum(present_QN.sum(0), 1)
        return cls(models, table, mean_score_N, reference_cost)

    def encode(self, queries: Sequence[str]) -> Floats:
        return no_features(queries)

    def decide(self, text_BD: Floats, states: States) -> Choices:
        column_M = columns_of(self.models, states.models)
        in_pool = states.allowed_BM | states.responded_BM | states.failed_BM
        situation = np.column_stack([in_pool.astype(np.float64), states.cost_weight_B])
        distinct, of_B = np.unique(situation, axis=0, return_inverse=True)
        triples = [self._triple(row[:-1] > 0, float(row[-1]), column_M) for row in distinct]
        return cascade_choices(np.array(triples, np.int64)[of_B.ravel()], states)

    def _triple(self, in_pool_M: Bools, cost_weight: float, column_M: Ints) -> Triple:
        usable_M = in_pool_M & (column_M >= 0)
        usable_N = np.zeros(len(self.models), bool)
        usable_N[column_M[usable_M]] = True
        found = self.table.best(cost_weight, self.reference_cost, usable_N)
        if found is not None:
            first, second, third = (int(np.flatnonzero(column_M == n)[0]) for n in found)
            return first, second, third
        score_M = np.where(usable_M, self.mean_score_N[column_M], np.where(in_pool_M, -1.0, -2.0))
        best = int(score_M.argmax())
        return best, best, best
