"""One conversation's turn, decided several times faster than as a batch of one.

The same steps as `NetworkPolicy.decide`, without the batch axis: arrays hold models alone, and what is one number an
episode is a float. Equal up to rounding, which a test checks on situations of every kind.

Axes: M models, F features, H hidden units; those of `inference` for what answers at hand say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, inf, log, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .features import (
    CALLABLE,
    COLUMN,
    FEATURES,
    FIXED_OF_EPISODE,
    FIXED_OF_MODEL,
    FREE_TEXT_SAME,
    PENDING,
    PENDING_CHANCE,
    PENDING_MODELS,
    PENDING_PENALTY,
    SCALE,
)
from .profiles import PoolProfile
from .single_inference import infer_one
from .states import Floats, States
from .turn_rules import HOPELESS_PENALTY, MAX_CALLS_PER_TURN, TIE, Payoff

Floats32 = NDArray[np.float32]
OF_EPISODE = slice(len(FIXED_OF_MODEL), len(FIXED_OF_MODEL) + len(FIXED_OF_EPISODE))


@dataclass(frozen=True, slots=True)
class Choice:
    """called: models to ask now, in the order they were added. selected: the model whose response is handed over, -1
    for none. chance: that the answer then at hand is right, not calibrated; 0 where none is.
    """

    called: list[int]
    selected: int
    chance: float


class SingleNetwork:
    """The network's forward pass for one episode."""

    def __init__(self, p: Mapping[str, Floats32]) -> None:
        self.parameters = p
        self.w1, self.b1, self.w2, self.b2 = p["w1"], p["b1"], p["w2"], p["b2"]
        self.w_context = np.concatenate([p["w_all"], p["w_responded"]])
        self.w3, self.b3, self.w4, self.b4, self.w5, self.b5 = (
            p[name] for name in ("w3", "b3", "w4", "b4", "w5", "b5")
        )

    def __call__(self, x_MF: Floats32, shares_2M: Floats32) -> tuple[Floats, Floats, Floats]:
        """(correct_M, add_M, go_2) as `network.forward` has them. shares_2M: by which the mean over the pool, and
        that over the responses, is taken."""
        h = x_MF.dot(self.w1)  # np.dot starts sooner than np.matmul
        h += self.b1
        np.maximum(h, 0.0, out=h)
        context_H = shares_2M.dot(h).reshape(-1).dot(self.w_context)
        context_H += self.b2
        h = h.dot(self.w2)
        h += context_H
        np.maximum(h, 0.0, out=h)
        out: Any = h.dot(self.w3)
        out += self.b3
        g = shares_2M[0].dot(h).dot(self.w4)
        g += self.b4
        np.maximum(g, 0.0, out=g)
        return out[:, 0], out[:, 1], g.dot(self.w5) + self.b5


def decide_one(
    network: SingleNetwork, payoff: Payoff, profile: PoolProfile, text_D: Floats, states: States
) -> Choice:
    """The turn of `states`, a batch of one. text_D: its text features, or the typical ones."""
    turn = _Turn(profile, text_D, states)
    while True:
        correct_M, add_M, go_2 = network(turn.x_MF, turn.shares_2M)
        chance_M = 1.0 / (1.0 + np.exp(-np.minimum(np.maximum(turn.chance_logit_M + correct_M, -12.0), 12.0)))
        worth_M = np.maximum(chance_M, turn.after_M)
        at_hand = max(map(worth_M.item, turn.at_hand), default=0.0)
        if turn.may_add():
            gain_M = payoff(np.maximum(worth_M, at_hand), turn.spent + turn.penalty_M)
            gain_M += add_M
            value_M = np.where(turn.legal_M(), gain_M, -inf)
            best = value_M.max()
            if best > -inf:
                go = -inf
                if turn.at_hand:
                    go = payoff(at_hand, turn.spent) + go_2.item(0 if turn.called else 1)
                if best >= go - TIE:
                    turn.add(int((value_M >= max(best, go) - TIE).argmax()))
                    continue
        chances = list(map(chance_M.item, turn.at_hand))
        chance = max(chances, default=0.0)
        selected = turn.at_hand[chances.index(chance)] if chances and not turn.called else -1
        return Choice(turn.called, selected, chance)


class _Turn:
    """A turn under way; fields as in `features.View`.

    at_hand: models that responded, in the pool's order, then those called so far. after_M: 0 for those that responded.
    """

    def __init__(self, profile: PoolProfile, text_D: Floats, states: States) -> None:
        chance_M, tokens_M, cost_M, same_wrong, same_right = profile.expect_one(
            text_D, states.prompt_tokens_B.item()
        )
        if states.discount_BM.any():
            cost_M = np.maximum(cost_M - states.discount_BM[0], 0.0)
        self.responded: list[int] = states.responded_BM[0].nonzero()[0].tolist()
        self.at_hand = self.responded.copy()
        self.called: list[int] = []
        self.callable_M = states.allowed_BM[0].copy()
        self.turns_left, self.money_left = states.turns_left_B.item(), states.money_left_B.item()
        self.cost_M = cost_M
        self.bound_M = cost_M * profile.cap_margin_M
        self.listed_bound = 0.0
        weight = states.cost_weight_B.item()
        relative_M = cost_M / profile.reference_cost
        self.penalty_M = weight * relative_M
        prior_logit_M = np.minimum(np.maximum(np.log(chance_M / (1.0 - chance_M)), -SCALE), SCALE)
        self.spent = self.spent_before = weight * sum(states.cost_BM[0].tolist()) / profile.reference_cost
        classes = states.answer_BM[0, self.responded].tolist() if self.responded else []
        if states.alike_B[0]:
            same_wrong, same_right = FREE_TEXT_SAME
        doubts = states.doubt_BM[0, self.responded].tolist() if self.responded else []
        voting_logit_M = prior_logit_M
        if any(doubts):
            voting_logit_M = prior_logit_M.copy()
            for model, answer, doubt in zip(self.responded, classes, doubts, strict=True):
                if answer >= 0:
                    voting_logit_M[model] -= doubt
        inferred = infer_one(
            voting_logit_M,
            self.responded,
            classes,
            same_wrong,
            same_right,
            profile.stretch_M1,
            profile.ease_MG,
        )
        self.chance_M, self.chance_logit_M, self.after_M = inferred
        if any(doubts):
            self._doubt(doubts)
        self._shares(states)
        self._features(
            profile, states, prior_logit_M, relative_M, tokens_M, weight, same_wrong, same_right, classes
        )
        if self.responded:
            self.after_M = self.after_M.copy()
            self.after_M[self.responded] = 0.0

    def _doubt(self, doubts: list[float]) -> None:
        """Takes what flaws say from the chances of responses."""
        self.chance_M, self.chance_logit_M = self.chance_M.copy(), self.chance_logit_M.copy()
        for model, doubt in zip(self.responded, doubts, strict=True):
            if doubt > 0:
                chance = min(max(self.chance_M.item(model), 1e-6), 1.0 - 1e-6)
                chance = 1.0 / (1.0 + exp(doubt - log(chance / (1.0 - chance))))
                self.chance_M[model] = chance
                chance = min(max(chance, 1e-6), 1.0 - 1e-6)
                self.chance_logit_M[model] = log(chance / (1.0 - chance))

    def may_add(self) -> bool:
        if self.turns_left <= 1:
            return not self.at_hand
        return len(self.called) < MAX_CALLS_PER_TURN

    def legal_M(self) -> NDArray[np.bool_]:
        """Models that may be added, as `network.legal_choices` has it."""
        callable_M = self.callable_M
        if self.money_left < inf:
            fits_M = self.bound_M <= self.money_left - self.listed_bound
            affordable_M = callable_M & fits_M
            if not self.at_hand and not affordable_M.any():
                cost_M = np.where(callable_M, self.cost_M, inf)
                affordable_M = callable_M & (cost_M <= min(cost_M.min(), self.money_left))
            callable_M = affordable_M
        limit = HOPELESS_PENALTY
        if not self.at_hand:
            limit += np.where(callable_M, self.penalty_M, inf).min()
        legal_M: NDArray[np.bool_] = callable_M & (self.penalty_M <= limit)
        return legal_M

    def add(self, model: int) -> None:
        self.called.append(model)
        self.at_hand.append(model)
        self.callable_M[model] = False
        self.listed_bound += self.bound_M.item(model)
        self.spent += self.penalty_M.item(model)
        x_MF = self.x_MF
        x_MF[model, CALLABLE], x_MF[model, PENDING] = 0.0, 1.0
        x_MF[:, PENDING_MODELS] = len(self.called)
        x_MF[:, PENDING_PENALTY] = min(sum(x_MF[m, COLUMN["penalty"]] for m in self.called), 2.0)
        x_MF[:, PENDING_CHANCE] = max(x_MF[m, COLUMN["chance logit"]] for m in self.called)

    def _shares(self, states: States) -> None:
        in_pool_M = states.allowed_BM[0] | states.responded_BM[0] | states.failed_BM[0]
        self.shares_2M = np.zeros((2, len(in_pool_M)), np.float32)
        self.shares_2M[0] = in_pool_M / (np.count_nonzero(in_pool_M) + 1e-6)
        if self.responded:
            self.shares_2M[1, self.responded] = 1.0 / (len(self.responded) + 1e-6)

    def _features(
        self,
        profile: PoolProfile,
        states: States,
        prior_logit_M: Floats,
        relative_M: Floats,
        tokens_M: Floats,
        weight: float,
        same_wrong: float,
        same_right: float,
        classes: list[int],
    ) -> None:
        callable_M = self.callable_M
        chance_logit_M = np.minimum(np.maximum(self.chance_logit_M, -SCALE), SCALE)
        best_uncalled = np.where(callable_M, chance_logit_M, -SCALE).max().item()
        self.x_MF = x_MF = np.zeros((len(callable_M), len(FEATURES)), np.float32)
        for name, column in (
            ("chance logit", chance_logit_M),
            ("prior logit", prior_logit_M),
            ("chance logit below the best uncalled", chance_logit_M - best_uncalled),
            ("log relative cost", np.log10(relative_M + 1e-5)),
            ("penalty", np.minimum(self.penalty_M, 2.0)),
            ("log penalty", np.log10(self.penalty_M + 1e-4)),
            ("failed", states.failed_BM[0]),
            ("measured", profile.known_M),
            ("callable", callable_M),
        ):
            x_MF[:, COLUMN[name]] = column
        of_episode = dict.fromkeys(FIXED_OF_EPISODE, 0.0) | {
            "log lambda": log10(weight + 1e-3),
            "one turn left": self.turns_left == 1,
            "two turns left": self.turns_left == 2,
            "turns left": min(self.turns_left, 6) / 4.0,
            "best uncalled chance logit": best_uncalled,
            "best value of one call": np.where(callable_M, self.chance_M - self.penalty_M, -1.0).max().item(),
            "same if wrong": same_wrong,
            "same if right": same_right,
        }
        if self.responded:
            of_episode |= self._after_responses(states, tokens_M, classes)
        x_MF[:, OF_EPISODE] = list(of_episode.values())

    def _after_responses(self, states: States, expected_M: Floats, classes: list[int]) -> dict[str, float]:
        """Writes the features of models that are zero before anybody responded; returns those of the episode."""
        x_MF, responded = self.x_MF, self.responded
        chances = list(map(self.chance_M.item, responded))
        tokens, expected = states.tokens_BM[0, responded].tolist(), expected_M[responded].tolist()
        votes = Counter(answer for answer in classes if answer >= 0)
        best = max(chances)
        x_MF[:, COLUMN["gain of asking"]] = np.maximum(self.after_M - best, 0.0)
        x_MF[responded, COLUMN["gain of asking"]] = 0.0
        x_MF[responded, COLUMN["responded"]] = 1.0
        leading = -2
        for i, model in enumerate(responded):
            answer = classes[i]
            ratio = log(max(tokens[i], 1.0) / max(expected[i], 1.0))
            x_MF[model, COLUMN["log length against expectation"]] = min(max(ratio, -3.0), 3.0)
            if answer >= 0:
                x_MF[model, COLUMN["answered"]] = 1.0
                x_MF[model, COLUMN["agreeing"]] = votes[answer]
                x_MF[model, COLUMN["disagreeing"]] = votes.total() - votes[answer]
            if chances[i] >= best - 1e-9:
                x_MF[model, COLUMN["likeliest answer"]] = 1.0
                if answer >= 0:
                    leading = max(leading, answer)
        rival = max(
            (chance for chance, answer in zip(chances, classes, strict=True) if answer != leading),
            default=0.0,
        )
        return {
            "responses": len(responded),
            "answers": votes.total(),
            "largest class": max(votes.values(), default=0),
            "best chance at hand": best,
            "lead over other answers": best - rival,
            "penalty so far": min(self.spent_before, 2.0),
        }
