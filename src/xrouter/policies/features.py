"""What the network policy reads: one row of numbers for every model of the pool, in every state.

Axes: B episodes, M models, F features. No feature depends on a model's position or name, so a policy
drives pools it was not trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .states import Bools, Floats, States

FEATURES = (
    "skill logit",
    "skill logit below the best callable",
    "log relative cost",
    "penalty",
    "log penalty",
    "callable",
    "pending",
    "responded",
    "failed",
    "answered",
    "agreeing",
    "disagreeing",
    "agreeing skill",
    "disagreeing skill",
    "best agreeing skill",
    "leads the vote",
    "log length against expectation",
    "measured",
    "log lambda",
    "one turn left",
    "two turns left",
    "responses",
    "answers",
    "largest class",
    "vote of the largest class",
    "margin of the largest class",
    "pending models",
    "pending penalty",
    "pending skill",
    "penalty so far",
    "best callable skill",
    "best value of one call",
)
SCALE = 4.0


@dataclass(frozen=True, eq=False)
class Prior:
    """Per query and model, before any call: probability of a right answer, output tokens, US dollars.

    known_BM: the model was measured; otherwise its chance is a guess from its descriptors.
    reference_cost: US dollars; the unit in which lambda counts cost.
    """

    chance_BM: Floats
    tokens_BM: Floats
    cost_BM: Floats
    known_BM: Bools
    reference_cost: float

    def rows(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Prior:
        return Prior(
            self.chance_BM[index],
            self.tokens_BM[index],
            self.cost_BM[index],
            self.known_BM[index],
            self.reference_cost,
        )


def logit(p: Floats) -> Floats:
    return np.asarray(np.log(p / (1.0 - p)), np.float64)


@dataclass(frozen=True, eq=False)
class Votes:
    """Who agrees with whom among the answers at hand; all zero where there are none.

    for_BM, against_BM: summed skill (logit + 1) of the models that give the same answer, or another.
    lead_B, margin_B: that sum of the strongest answer, and how far the next one is behind.
    """

    answered_BM: Bools
    agreeing_BM: Floats
    disagreeing_BM: Floats
    for_BM: Floats
    against_BM: Floats
    best_agreeing_BM: Floats
    leads_BM: Bools
    answers_B: Floats
    largest_B: Floats
    lead_B: Floats
    margin_B: Floats


def count_votes(skill_BM: Floats, states: States) -> Votes:
    answered = states.responded_BM & (states.answer_BM >= 0)
    if not answered.any():  # every first turn, where a server spends most of its decisions
        none_BM, none_B = np.zeros(answered.shape), np.zeros(len(answered))
        return Votes(
            answered, none_BM, none_BM, none_BM, none_BM, none_BM, answered, none_B, none_B, none_B, none_B
        )
    same = (
        (states.answer_BM[:, :, None] == states.answer_BM[:, None, :])
        & answered[:, :, None]
        & answered[:, None, :]
    )
    agreeing = same.sum(2).astype(np.float64)
    answers = answered.sum(1).astype(np.float64)
    odds = np.where(answered, skill_BM + 1.0, 0.0)
    vote = np.einsum("bij,bj->bi", same, odds)
    best_agreeing = np.where(same, skill_BM[:, None, :], -SCALE).max(2)
    ranked = np.where(answered, vote, -np.inf)
    lead = np.where(answers > 0, ranked.max(1, initial=-np.inf), 0.0)
    leads = vote >= (lead - 1e-9)[:, None]
    rival = np.where(leads, -np.inf, ranked).max(1, initial=-np.inf)
    return Votes(
        answered_BM=answered,
        agreeing_BM=agreeing,
        disagreeing_BM=np.where(answered, answers[:, None] - agreeing, 0.0),
        for_BM=vote,
        against_BM=np.where(answered, odds.sum(1)[:, None] - vote, 0.0),
        best_agreeing_BM=np.where(answered, best_agreeing, 0.0),
        leads_BM=answered & leads,
        answers_B=answers,
        largest_B=np.where(answers > 0, agreeing.max(1, initial=0.0), 0.0),
        lead_B=lead,
        margin_B=np.where(answers > 0, lead - np.where(np.isfinite(rival), rival, 0.0), 0.0),
    )


def features(prior: Prior, states: States, pending_BM: Bools) -> NDArray[np.float32]:
    """x_BMF; `pending_BM` are the models already picked in this turn and not yet called."""
    B, M = states.allowed_BM.shape
    skill = np.clip(logit(prior.chance_BM), -SCALE, SCALE)
    callable_ = states.allowed_BM & ~pending_BM
    relative = prior.cost_BM / prior.reference_cost
    penalty = states.cost_weight_B[:, None] * relative

    votes = count_votes(skill, states)
    ratio = np.log(np.maximum(states.tokens_BM, 1.0) / np.maximum(prior.tokens_BM, 1.0))
    best_skill = np.where(callable_, skill, -SCALE).max(1)
    one_call = np.where(callable_, prior.chance_BM - penalty, -1.0).max(1)
    pending_count = pending_BM.sum(1)

    per_model = [
        skill,
        skill - best_skill[:, None],
        np.log10(relative + 1e-5),
        np.minimum(penalty, 2.0),
        np.log10(penalty + 1e-4),
        callable_,
        pending_BM,
        states.responded_BM,
        states.failed_BM,
        votes.answered_BM,
        votes.agreeing_BM,
        votes.disagreeing_BM,
        votes.for_BM / SCALE,
        votes.against_BM / SCALE,
        votes.best_agreeing_BM,
        votes.leads_BM,
        np.where(states.responded_BM, np.clip(ratio, -3.0, 3.0), 0.0),
        prior.known_BM,
    ]
    per_episode = [
        np.log10(states.cost_weight_B + 1e-3),
        states.turns_left_B == 1,
        states.turns_left_B == 2,
        states.responded_BM.sum(1),
        votes.answers_B,
        votes.largest_B,
        votes.lead_B / SCALE,
        votes.margin_B / SCALE,
        pending_count,
        np.minimum((penalty * pending_BM).sum(1), 2.0),
        np.where(pending_count > 0, np.where(pending_BM, skill, -SCALE).max(1), 0.0),
        np.minimum(states.cost_weight_B * states.cost_BM.sum(1) / prior.reference_cost, 2.0),
        best_skill,
        one_call,
    ]
    x = np.empty((B, M, len(FEATURES)), np.float32)
    for i, column in enumerate(per_model):
        x[:, :, i] = column
    for i, value in enumerate(per_episode, start=len(per_model)):
        x[:, :, i] = value[:, None]
    return x
