"""What the network policy reads: one row of numbers for every model of the pool, in every state.

Axes: B episodes, M models, F features. No feature depends on a model's position or name, so a policy
drives pools it was not trained on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .inference import Inference, infer
from .odds import logit, sigmoid
from .states import Bools, Floats, Ints, States, agreement_BM

FIXED_OF_MODEL = (
    "chance logit",
    "prior logit",
    "chance logit below the best uncalled",
    "gain of asking",
    "log relative cost",
    "penalty",
    "log penalty",
    "responded",
    "failed",
    "answered",
    "agreeing",
    "disagreeing",
    "likeliest answer",
    "log length against expectation",
    "measured",
)
FIXED_OF_EPISODE = (
    "log lambda",
    "one turn left",
    "two turns left",
    "turns left",
    "responses",
    "answers",
    "largest class",
    "best chance at hand",
    "lead over other answers",
    "penalty so far",
    "best uncalled chance logit",
    "best value of one call",
    "same if wrong",
    "same if right",
)
"""What the list of the turn under way does not change."""
VARYING = ("callable", "pending", "pending models", "pending penalty", "best pending chance logit")
FEATURES = (*FIXED_OF_MODEL, *FIXED_OF_EPISODE, *VARYING)
SCALE = 4.0
FREE_TEXT_SAME = (0.6, 0.7)
"""`Prior.same_B2` where texts are judged alike in place of answers equal: two wrong ones are nearly as often alike as two
right ones, so that confidence rises little. Agreement then says about what it was worth on the least telling of the
recorded tasks with texts (docs/experiments/policy.md)."""
COLUMN = {name: i for i, name in enumerate(FEATURES)}
CALLABLE, PENDING, PENDING_MODELS, PENDING_PENALTY, PENDING_CHANCE = (COLUMN[name] for name in VARYING)


@dataclass(frozen=True, eq=False)
class Prior:
    """Per query and model, before any call: probability of a right answer, output tokens, US dollars.

    known_BM: the model was measured; otherwise its chance is a guess from its descriptors.
    same_B2: probability that two wrong answers, and two right ones, are equal.
    loadings_ME: how each model's success follows the hidden ease of queries, in logits (see `inference`).
    reference_cost: US dollars; the unit in which lambda counts cost.
    cap_margin_M: times its expected cost that a call must fit under a cap on cost.
    """

    chance_BM: Floats
    tokens_BM: Floats
    cost_BM: Floats
    known_BM: Bools
    same_B2: Floats
    loadings_ME: Floats
    reference_cost: float
    cap_margin_M: Floats

    def columns(self, index: Ints) -> Prior:
        """These models only; the unit of cost stays the whole pool's."""
        return Prior(
            self.chance_BM[:, index],
            self.tokens_BM[:, index],
            self.cost_BM[:, index],
            self.known_BM[:, index],
            self.same_B2,
            self.loadings_ME[index],
            self.reference_cost,
            self.cap_margin_M[index],
        )

    def rows(self, index: Ints | Bools) -> Prior:
        return Prior(
            self.chance_BM[index],
            self.tokens_BM[index],
            self.cost_BM[index],
            self.known_BM[index],
            self.same_B2[index],
            self.loadings_ME,
            self.reference_cost,
            self.cap_margin_M,
        )


@dataclass(frozen=True, eq=False)
class View:
    """A turn before its first choice: the prior, the states, what the answers at hand say, and the fixed features.

    chance_logit_BM: of the inferred chances. penalty_BM: lambda times each model's expected cost.
    """

    prior: Prior
    states: States
    inference: Inference
    chance_logit_BM: Floats
    penalty_BM: Floats
    fixed_BMF: NDArray[np.float32]

    def rows(self, index: Ints | Bools) -> View:
        return View(
            self.prior.rows(index),
            self.states.rows(index),
            Inference(self.inference.chance_BM[index], self.inference.after_BM[index]),
            self.chance_logit_BM[index],
            self.penalty_BM[index],
            self.fixed_BMF[index],
        )


def look(prior: Prior, states: States) -> View:
    """The view of these states."""
    if states.alike_B.any():
        prior = replace(prior, same_B2=np.where(states.alike_B[:, None], FREE_TEXT_SAME, prior.same_B2))
    prior_logit = np.clip(logit(prior.chance_BM), -SCALE, SCALE)
    inference = _infer(prior, states, prior_logit)
    chance_logit = logit(np.clip(inference.chance_BM, 1e-6, 1.0 - 1e-6))
    relative = prior.cost_BM / prior.reference_cost
    penalty = states.cost_weight_B[:, None] * relative
    fixed = _fixed_features(prior, states, inference, prior_logit, chance_logit, relative, penalty)
    return View(prior, states, inference, chance_logit, penalty, fixed)


def _infer(prior: Prior, states: States, prior_logit: Floats) -> Inference:
    """What the answers at hand say. Doubt takes weight from a response's vote, and then from its own chance."""
    answer_BM = np.where(states.responded_BM, states.answer_BM, -1)
    same_wrong_B, same_right_B = prior.same_B2[:, 0], prior.same_B2[:, 1]
    doubt_BM = np.where(states.responded_BM, states.doubt_BM, 0.0)
    if not doubt_BM.any():
        return infer(prior_logit, answer_BM, same_wrong_B, same_right_B, prior.loadings_ME)
    voting_logit = np.where(answer_BM >= 0, prior_logit - doubt_BM, prior_logit)
    found = infer(voting_logit, answer_BM, same_wrong_B, same_right_B, prior.loadings_ME)
    chance_BM = np.clip(found.chance_BM, 1e-6, 1.0 - 1e-6)
    doubted_BM = np.where(doubt_BM > 0, sigmoid(logit(chance_BM) - doubt_BM), found.chance_BM)
    return replace(found, chance_BM=doubted_BM)


def _fixed_features(
    prior: Prior,
    states: States,
    inference: Inference,
    prior_logit: Floats,
    chance_logit: Floats,
    relative: Floats,
    penalty: Floats,
) -> NDArray[np.float32]:
    B, M = states.allowed_BM.shape
    chance = inference.chance_BM
    chance_logit = np.clip(chance_logit, -SCALE, SCALE)
    log_penalty = np.log10(penalty + 1e-4)
    best_uncalled = np.where(states.allowed_BM, chance_logit, -SCALE).max(1)
    one_call = np.where(states.allowed_BM, chance - penalty, -1.0).max(1)
    x = np.zeros((B, M, len(FEATURES)), np.float32)
    per_model = {
        "chance logit": chance_logit,
        "prior logit": prior_logit,
        "chance logit below the best uncalled": chance_logit - best_uncalled[:, None],
        "log relative cost": np.log10(relative + 1e-5),
        "penalty": np.minimum(penalty, 2.0),
        "log penalty": log_penalty,
        "failed": states.failed_BM,
        "measured": prior.known_BM,
    }
    per_episode = {
        "log lambda": np.log10(states.cost_weight_B + 1e-3),
        "one turn left": states.turns_left_B == 1,
        "two turns left": states.turns_left_B == 2,
        "turns left": np.minimum(states.turns_left_B, 6) / 4.0,
        "best uncalled chance logit": best_uncalled,
        "best value of one call": one_call,
        "same if wrong": prior.same_B2[:, 0],
        "same if right": prior.same_B2[:, 1],
    }
    if states.responded_BM.any():  # not in a first turn, where a server spends most of its decisions
        more_of_model, more_of_episode = _after_responses(prior, states, inference)
        per_model |= more_of_model
        per_episode |= more_of_episode
    for name, column in per_model.items():
        x[:, :, COLUMN[name]] = column
    for name, value in per_episode.items():
        x[:, :, COLUMN[name]] = value[:, None]
    return x


def _after_responses(
    prior: Prior, states: States, inference: Inference
) -> tuple[dict[str, Floats | Bools], dict[str, Floats | Ints]]:
    """The features that are zero before anybody responded."""
    responded, chance = states.responded_BM, inference.chance_BM
    answered = responded & (states.answer_BM >= 0)
    agreeing = agreement_BM(states)
    answers = answered.sum(1)
    at_hand = np.where(responded, chance, 0.0)
    best = at_hand.max(1)
    leads = responded & (at_hand >= best[:, None] - 1e-9)
    leading = np.where(leads & answered, states.answer_BM, -2).max(1)
    rival = np.where(responded & (states.answer_BM != leading[:, None]), at_hand, 0.0).max(1)
    ratio = np.log(np.maximum(states.tokens_BM, 1.0) / np.maximum(prior.tokens_BM, 1.0))
    some_B1 = np.asarray(responded.any(1))[:, None]
    return {
        "gain of asking": np.where(
            ~responded & some_B1, np.maximum(inference.after_BM - best[:, None], 0.0), 0.0
        ),
        "responded": responded,
        "answered": answered,
        "agreeing": agreeing,
        "disagreeing": np.where(answered, answers[:, None] - agreeing, 0.0),
        "likeliest answer": leads,
        "log length against expectation": np.where(responded, np.clip(ratio, -3.0, 3.0), 0.0),
    }, {
        "responses": responded.sum(1),
        "answers": answers,
        "largest class": agreeing.max(1),
        "best chance at hand": best,
        "lead over other answers": best - rival,
        "penalty so far": np.where(
            responded.any(1),
            np.minimum(states.cost_weight_B * states.cost_BM.sum(1) / prior.reference_cost, 2.0),
            0.0,
        ),
    }


def features(view: View, pending_BM: Bools) -> NDArray[np.float32]:
    """x_BMF; `pending_BM` are the models already picked in this turn and not yet called."""
    x = view.fixed_BMF.copy()
    x[:, :, CALLABLE] = view.states.allowed_BM & ~pending_BM
    if pending_BM.any():
        x[:, :, PENDING] = pending_BM
        count = pending_BM.sum(1)
        x[:, :, PENDING_MODELS] = count[:, None]
        penalty = (x[:, :, COLUMN["penalty"]] * pending_BM).sum(1)
        x[:, :, PENDING_PENALTY] = np.minimum(penalty, 2.0)[:, None]
        best = np.where(pending_BM, x[:, :, COLUMN["chance logit"]], -SCALE).max(1)
        x[:, :, PENDING_CHANCE] = np.where(count > 0, best, 0.0)[:, None]
    return x
