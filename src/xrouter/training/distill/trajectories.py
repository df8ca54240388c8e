"""A teacher's episodes as the small choices of the network: add model m to the turn, go, hand over.

Axes: E episodes, N choices, M models, A = M + 1 choices. Where the teacher called several models at once any of them
is a right next choice until all are listed (a dynamic oracle: Goldberg and Nivre, 2012); one at random is added.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ...policies.features import Prior, View, look
from ...policies.network import legal_choices
from ...policies.states import Bools, Ints, States
from ...tasks.replay import Replay
from .teaching import Teaching


@dataclass(frozen=True, eq=False)
class Trajectories:
    """N choices. right_NA: what the teacher would choose there. legal_NA: what the network may.

    selected_N: at a handing over, the model whose response the teacher chose among several; else -1.
    query_N: rows of the prior. unreachable: episodes with a call that the network's rules forbid.
    """

    view: View
    pending_NM: Bools
    legal_NA: Bools
    right_NA: Bools
    selected_N: Ints
    query_N: Ints
    unreachable: int

    def __len__(self) -> int:
        return len(self.query_N)


def trajectories(taught: Teaching, prior: Prior, max_turns: int, rng: np.random.Generator) -> Trajectories:
    """`prior`: one row a query of `taught.outcomes`."""
    replay = Replay(taught.outcomes.recording, max_turns)
    states = replay.start(taught.query_E, taught.weight_E)
    E, M = states.allowed_BM.shape
    views = look(prior.rows(taught.query_E), states)
    pending_EM, turn_E = np.zeros((E, M), bool), np.ones(E, np.int64)
    unreachable_E = np.zeros(E, bool)
    active = np.arange(E)
    rounds: list[dict[str, Any]] = []
    while len(active):
        now, pending = views.rows(active), pending_EM[active]
        legal_NA = legal_choices(now, pending)
        wanted = (taught.turn_EM[active] == turn_E[active, None]) & ~pending
        may_add = wanted & legal_NA[:, :M]
        unreachable_E[active] |= (wanted & ~legal_NA[:, :M]).any(1)
        add = may_add.any(1)
        possible = add | legal_NA[:, M]
        right_NA = np.concatenate([may_add, ~add[:, None]], 1)
        answer = taught.answer_from_E[active]
        over = ~add & ~pending.any(1)
        several = now.states.responded_BM.sum(1) > 1
        chosen = now.states.responded_BM[np.arange(len(active)), np.maximum(answer, 0)] & (answer >= 0)
        rounds.append(
            {
                "episode": active[possible],
                "states": now.states.rows(possible),
                "pending": pending[possible],
                "legal": legal_NA[possible],
                "right": right_NA[possible],
                "selected": np.where(over & several & chosen, answer, -1)[possible],
            }
        )
        pick = np.where(may_add, rng.random(may_add.shape), -1.0).argmax(1)
        pending_EM[active[add], pick[add]] = True
        # In the last turn a model that is added is called at once; no "go" is asked for.
        calling = (~add & pending.any(1)) | (add & (now.states.turns_left_B <= 1))
        callers = active[calling]
        if len(callers):
            after = replay.call(taught.query_E[callers], states.rows(callers), pending_EM[callers])
            states = _with_rows(states, callers, after)
            pending_EM[callers] = False
            turn_E[callers] += 1
            views = _look_again(views, states, callers, prior, taught)
        goes_on = possible & ~over & (states.turns_left_B[active] > 0)
        active = active[goes_on]
    episode_N = np.concatenate([one["episode"] for one in rounds])
    states_N = _joined([one["states"] for one in rounds])
    query_N = taught.query_E[episode_N]
    return Trajectories(
        view=look(prior.rows(query_N), states_N),
        pending_NM=np.concatenate([one["pending"] for one in rounds]),
        legal_NA=np.concatenate([one["legal"] for one in rounds]),
        right_NA=np.concatenate([one["right"] for one in rounds]),
        selected_N=np.concatenate([one["selected"] for one in rounds]),
        query_N=query_N,
        unreachable=int(unreachable_E.sum()),
    )


def _joined(parts: list[States]) -> States:
    names = [f.name for f in fields(States) if f.name != "models"]
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return States(models=parts[0].models, **joined)


def _with_rows(states: States, rows: Ints, part: States) -> States:
    changed = {}
    for field in fields(States):
        if field.name != "models":
            values = getattr(states, field.name).copy()
            values[rows] = getattr(part, field.name)
            changed[field.name] = values
    return replace(states, **changed)


def _look_again(views: View, states: States, rows: Ints, prior: Prior, taught: Teaching) -> View:
    new = look(prior.rows(taught.query_E[rows]), states.rows(rows))
    inference = replace(
        views.inference,
        chance_BM=_put(views.inference.chance_BM, rows, new.inference.chance_BM),
        after_BM=_put(views.inference.after_BM, rows, new.inference.after_BM),
    )
    return replace(
        views,
        states=states,
        inference=inference,
        chance_logit_BM=_put(views.chance_logit_BM, rows, new.chance_logit_BM),
        penalty_BM=_put(views.penalty_BM, rows, new.penalty_BM),
        fixed_BMF=_put(views.fixed_BMF, rows, new.fixed_BMF),
    )


def _put(values: Any, rows: Ints, part: Any) -> Any:
    out = values.copy()
    out[rows] = part
    return out
