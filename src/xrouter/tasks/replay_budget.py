"""Cost caps on recorded calls, by the environment's own rule (`episodes.budget`).

Axes: B episodes, Q queries, M models. What is not as it would be live:

- a call that was limited to fewer tokens than were recorded is cut: charged to its limit, without an answer. A model
  that is told its limit might have been briefer;
- where the recorded prompt is longer than any wording of the query alone can be (it held more than the query), its
  cost is charged up to the money left, so that a cap holds on recordings too.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from ..episodes.budget import fit_budget, least_money
from ..episodes.calls import PlannedCall
from ..episodes.cost import predicted_cost
from ..messages import Request
from ..policies.states import Bools, Floats, Ints
from .outcomes import Recording

DIGITS = 15
"""Decimal places of US dollars kept: a token costs far more than the last of them, a float's rounding far less."""


def least_money_QM(record: Recording) -> Floats:
    """US dollars that must be left for each call to be made at all; inf where it was never recorded."""
    out = np.full(record.present_QM.shape, np.inf)
    for q, prompt in enumerate(record.prompts):
        request = Request.from_text(prompt)
        for m in np.flatnonzero(record.present_QM[q]):
            out[q, m] = float(least_money(record.models[m], request))
    return out


def fit_calls(
    record: Recording, query_B: Ints, money_left_B: Floats, call_BM: Bools
) -> tuple[Bools, Floats, Floats]:
    """(call_BM, tokens_BM, cost_BM): the calls that fit the money left, their output tokens and US dollars."""
    call_BM = call_BM.copy()
    tokens_BM = record.tokens_QM[query_B].astype(np.float64)
    cost_BM = record.cost_QM[query_B].copy()
    usd_per_token_M = np.array([float(model.price.rates.output) for model in record.models]) / 1e6
    for b in np.flatnonzero(call_BM.any(1) & np.isfinite(money_left_B)):
        request = Request.from_text(record.prompts[query_B[b]])
        planned = [
            PlannedCall(str(m), record.models[m], request, predicted_cost(record.models[m], request))
            for m in np.flatnonzero(call_BM[b])
        ]
        call_BM[b] = False
        for call in fit_budget(planned, Decimal(f"{money_left_B[b]:.{DIGITS}f}"))[0]:
            m = int(call.call_id)
            call_BM[b, m] = True
            limit = call.request.max_output_tokens
            if limit is not None and limit < tokens_BM[b, m]:
                cost_BM[b, m] -= (tokens_BM[b, m] - limit) * usd_per_token_M[m]
                tokens_BM[b, m] = limit
    spent_BM = np.cumsum(np.where(call_BM, cost_BM, 0.0), 1)
    left_BM = money_left_B[:, None] - (spent_BM - np.where(call_BM, cost_BM, 0.0))
    over_BM = call_BM & (cost_BM > left_BM)
    return call_BM, tokens_BM, np.where(over_BM, np.maximum(left_BM, 0.0), cost_BM)
