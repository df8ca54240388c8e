"""Episodes replayed on recorded outcomes, thousands at a time, without one live call.

Axes: B episodes, M models. The rules are those of `episodes.environment`; a test runs both on the same
queries and compares every decision. `replay_budget` says where a cost cap differs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..episodes.cost import estimate_query_tokens
from ..episodes.episode import DEFAULT_MAX_TURNS
from ..policies.arrays import last_resort
from ..policies.doubt import NO_ANSWER
from ..policies.states import ArrayPolicy, Bools, Floats, Ints, States, agreement_BM
from ..policies.target_quality import TargetQuality
from .outcomes import Recording
from .replay_budget import DIGITS, fit_calls, least_money_QM


@dataclass(frozen=True, eq=False)
class Rollouts:
    """B finished episodes. turn_BM: the turn (from 1) in which a model was called, 0 if never.

    answer_from_B: the model whose response was handed over, -1 when every call failed or none was made.
    cut_BM: calls whose answer was cut off by a cost cap; handed over, it is no right answer.
    familiar_B: False where the policy said that the query is unlike all that it was trained on.
    """

    turn_BM: Ints
    answer_from_B: Ints
    cut_BM: Bools
    confidence_B: Floats
    cost_B: Floats
    familiar_B: Bools

    @property
    def called_BM(self) -> Bools:
        return self.turn_BM > 0

    @property
    def whole_answer_from_B(self) -> Ints:
        """`answer_from_B`, -1 also where that answer was cut off: what scores are joined to."""
        handed_over = np.maximum(self.answer_from_B, 0)
        return np.where(self.cut_BM[np.arange(len(handed_over)), handed_over], -1, self.answer_from_B)


@dataclass(frozen=True, eq=False)
class Replay:
    """A recording as an environment for `max_turns` decisions an episode."""

    recording: Recording
    max_turns: int = DEFAULT_MAX_TURNS

    def start(
        self,
        query_B: Ints,
        cost_weight_B: Floats,
        target_quality_B: Floats | None = None,
        max_cost_usd_B: Floats | None = None,
    ) -> States:
        """The first observation of an episode for each of these queries (rows of the recording).

        target_quality_B: NaN for none; max_cost_usd_B: inf for none.
        """
        record = self.recording
        shape = (len(query_B), len(record.models))
        money_left_B = np.full(shape[0], np.inf) if max_cost_usd_B is None else max_cost_usd_B
        return States(
            models=record.models,
            cost_weight_B=np.asarray(cost_weight_B, np.float64),
            target_quality_B=np.full(shape[0], np.nan) if target_quality_B is None else target_quality_B,
            turns_left_B=np.full(shape[0], self.max_turns, np.int64),
            money_left_B=money_left_B,
            prompt_tokens_B=np.array([estimate_query_tokens(record.prompts[i]) for i in query_B], np.float64),
            allowed_BM=record.present_QM[query_B] & self._affordable_BM(query_B, money_left_B),
            responded_BM=np.zeros(shape, bool),
            failed_BM=np.zeros(shape, bool),
            answer_BM=np.full(shape, -1, np.int64),
            tokens_BM=np.zeros(shape),
            cost_BM=np.zeros(shape),
        )

    def call(self, query_B: Ints, states: States, call_BM: Bools) -> States:
        """The next observation after these calls."""
        record = self.recording
        call_BM = call_BM & states.allowed_BM
        answer_BM, tokens_BM, cost_BM = (
            values_QM[query_B] for values_QM in (record.answer_QM, record.tokens_QM, record.cost_QM)
        )
        money_left_B, allowed_BM, doubt_BM = states.money_left_B, states.allowed_BM, states.doubt_BM
        if np.isfinite(money_left_B).any():
            call_BM, limited_BM, cost_BM = fit_calls(record, query_B, money_left_B, call_BM)
            cut_BM = call_BM & (limited_BM < tokens_BM)
            answer_BM = np.where(cut_BM, -1, answer_BM)
            doubt_BM = np.where(cut_BM, NO_ANSWER, doubt_BM)
            tokens_BM = limited_BM
            money_left_B = np.round(money_left_B - np.where(call_BM, cost_BM, 0.0).sum(1), DIGITS)
            allowed_BM = allowed_BM & self._affordable_BM(query_B, money_left_B)
        return replace(
            states,
            turns_left_B=states.turns_left_B - 1,
            money_left_B=money_left_B,
            allowed_BM=allowed_BM & ~call_BM,
            responded_BM=states.responded_BM | call_BM,
            answer_BM=np.where(call_BM, answer_BM, states.answer_BM),
            tokens_BM=np.where(call_BM, tokens_BM, states.tokens_BM),
            cost_BM=np.where(call_BM, cost_BM, states.cost_BM),
            doubt_BM=doubt_BM,
        )

    def run(
        self,
        policy: ArrayPolicy,
        text_QD: Floats,
        query_B: Ints,
        cost_weight_B: Floats,
        target_quality_B: Floats | None = None,
        max_cost_usd_B: Floats | None = None,
    ) -> Rollouts:
        """Plays each episode to its end. `text_QD` are the policy's own features of every recorded query.

        Raises RequestError where a target quality is asked of a policy without confidence.
        """
        policy = TargetQuality(policy)
        states = self.start(query_B, cost_weight_B, target_quality_B, max_cost_usd_B)
        turn_BM = np.zeros(states.allowed_BM.shape, np.int64)
        answer_from_B = np.full(len(query_B), -1, np.int64)
        confidence_B = np.full(len(query_B), np.nan)
        familiar_B = np.ones(len(query_B), bool)
        cost_B = np.zeros(len(query_B))
        cut_BM = np.zeros(states.allowed_BM.shape, bool)
        active = np.arange(len(query_B))
        for turn in range(1, self.max_turns + 1):
            choices = policy.decide(text_QD[query_B[active]], states)
            confidence_B[active] = choices.confidence_B
            familiar_B[active] &= choices.familiar_B
            ended = choices.select_B >= 0
            answer_from_B[active[ended]] = choices.select_B[ended]
            wanted_BM = choices.call_BM & ~ended[:, None]
            for b in np.flatnonzero(~ended & ~wanted_BM.any(1)):
                wanted_BM[b, last_resort(states.rows(np.array([b])))] = True
            states = self.call(query_B[active], states, wanted_BM)
            turn_BM[active] = np.where(states.responded_BM & (turn_BM[active] == 0), turn, turn_BM[active])
            cost_B[active] = states.cost_BM.sum(1)
            cut_BM[active] = states.responded_BM & (
                states.tokens_BM < self.recording.tokens_QM[query_B[active]]
            )
            at_limit = ~ended & (self._broke_B(query_B[active], states, wanted_BM) | (turn == self.max_turns))
            answer_from_B[active[at_limit]] = best_at_limit(states, turn_BM[active])[at_limit]
            goes_on = ~ended & ~at_limit
            active, states = active[goes_on], states.rows(goes_on)
            if not len(active):
                break
        return Rollouts(turn_BM, answer_from_B, cut_BM, confidence_B, cost_B, familiar_B)

    @cached_property
    def _least_money_QM(self) -> Floats:
        return least_money_QM(self.recording)

    def _affordable_BM(self, query_B: Ints, money_left_B: Floats) -> Bools:
        """Calls that the cap leaves money for, already made ones too."""
        if np.isinf(money_left_B).all():
            return np.ones((len(query_B), len(self.recording.models)), bool)
        return self._least_money_QM[query_B] <= money_left_B[:, None]

    def _broke_B(self, query_B: Ints, states: States, wanted_BM: Bools) -> Bools:
        """Where a call was refused for money and none could be paid for: the environment ends the episode."""
        refused_B = (wanted_BM & ~states.responded_BM).any(1) & np.isfinite(states.money_left_B)
        return refused_B & ~self._affordable_BM(query_B, states.money_left_B).any(1)


def best_at_limit(states: States, turn_BM: Ints) -> Ints:
    """What the environment hands over when the turns are used up; -1 where nothing came back.

    The rule of `episodes.agreement.best_response`: sound responses, then those that answer, then the largest class of
    equal answers, then the more capable model, then the earlier response. Recordings hold no text, so every response
    counts as saying something.
    """
    soundness_BM = (states.doubt_BM <= 0).astype(np.int64) + (states.doubt_BM < NO_ANSWER)
    votes_BM = agreement_BM(states).astype(np.int64) + soundness_BM * (len(states.models) + 1)
    score_BM = votes_BM * len(states.models) + _capability_rank_M(states)
    latest = int(turn_BM.max(initial=0))
    ranked = np.where(states.responded_BM, score_BM * (latest + 1) + latest - turn_BM, -1)
    return np.where(states.responded_BM.any(1), ranked.argmax(1), -1)


def _capability_rank_M(states: States) -> Ints:
    """Rank of each model by stated capability, then output and input price; equal models rank equal."""
    keys = [(m.capability or 0.0, m.price.rates.output, m.price.rates.input) for m in states.models]
    ordered = sorted(set(keys))
    return np.array([ordered.index(key) for key in keys], np.int64)
