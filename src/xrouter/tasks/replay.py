"""Episodes replayed on recorded outcomes, thousands at a time, without one live call.

Axes: B episodes, M models. The rules are those of `episodes.environment`; a test runs both on the same
queries and compares every decision.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..episodes.cost import estimate_query_tokens
from ..episodes.episode import DEFAULT_MAX_TURNS
from ..policies.states import ArrayPolicy, Bools, Floats, Ints, States, agreement_BM
from .outcomes import Recording


@dataclass(frozen=True, eq=False)
class Rollouts:
    """B finished episodes. turn_BM: the turn (from 1) in which a model was called, 0 if never.

    answer_from_B: the model whose response was handed over, -1 when every call failed or none was made.
    """

    turn_BM: Ints
    answer_from_B: Ints
    confidence_B: Floats
    cost_B: Floats

    @property
    def called_BM(self) -> Bools:
        return self.turn_BM > 0


@dataclass(frozen=True, eq=False)
class Replay:
    """A recording as an environment for `max_turns` decisions an episode."""

    recording: Recording
    max_turns: int = DEFAULT_MAX_TURNS

    def start(self, query_B: Ints, cost_weight_B: Floats) -> States:
        """The first observation of an episode for each of these queries (rows of the recording)."""
        record = self.recording
        shape = (len(query_B), len(record.models))
        return States(
            models=record.models,
            cost_weight_B=np.asarray(cost_weight_B, np.float64),
            turns_left_B=np.full(shape[0], self.max_turns, np.int64),
            money_left_B=np.full(shape[0], np.inf),
            prompt_tokens_B=np.array([estimate_query_tokens(record.prompts[i]) for i in query_B], np.float64),
            allowed_BM=record.present_QM[query_B].copy(),
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
        return replace(
            states,
            turns_left_B=states.turns_left_B - 1,
            allowed_BM=states.allowed_BM & ~call_BM,
            responded_BM=states.responded_BM | call_BM,
            answer_BM=np.where(call_BM, record.answer_QM[query_B], states.answer_BM),
            tokens_BM=np.where(call_BM, record.tokens_QM[query_B], states.tokens_BM),
            cost_BM=np.where(call_BM, record.cost_QM[query_B], states.cost_BM),
        )

    def run(self, policy: ArrayPolicy, text_QD: Floats, query_B: Ints, cost_weight_B: Floats) -> Rollouts:
        """Plays each episode to its end. `text_QD` are the policy's own features of every recorded query."""
        states = self.start(query_B, cost_weight_B)
        turn_BM = np.zeros(states.allowed_BM.shape, np.int64)
        answer_from_B = np.full(len(query_B), -1, np.int64)
        confidence_B = np.full(len(query_B), np.nan)
        cost_B = np.zeros(len(query_B))
        active = np.arange(len(query_B))
        for turn in range(1, self.max_turns + 1):
            choices = policy.decide(text_QD[query_B[active]], states)
            confidence_B[active] = choices.confidence_B
            ended = choices.select_B >= 0
            answer_from_B[active[ended]] = choices.select_B[ended]
            states = self.call(query_B[active], states, choices.call_BM & ~ended[:, None])
            turn_BM[active] = np.where(states.responded_BM & (turn_BM[active] == 0), turn, turn_BM[active])
            cost_B[active] = states.cost_BM.sum(1)
            if turn == self.max_turns:
                answer_from_B[active[~ended]] = best_at_limit(states, turn_BM[active])[~ended]
            active, states = active[~ended], states.rows(~ended)
            if not len(active):
                break
        return Rollouts(turn_BM, answer_from_B, confidence_B, cost_B)


def best_at_limit(states: States, turn_BM: Ints) -> Ints:
    """What the environment hands over when the turns are used up; -1 where nothing came back.

    The rule of `episodes.agreement.best_response`: the largest class of equal answers, then the more capable
    model, then the earlier response. Recordings hold no text, so every response counts as saying something.
    """
    votes_BM = agreement_BM(states).astype(np.int64)
    score_BM = votes_BM * len(states.models) + _capability_rank_M(states)
    latest = int(turn_BM.max(initial=0))
    ranked = np.where(states.responded_BM, score_BM * (latest + 1) + latest - turn_BM, -1)
    return np.where(states.responded_BM.any(1), ranked.argmax(1), -1)


def _capability_rank_M(states: States) -> Ints:
    """Rank of each model by stated capability, then output and input price; equal models rank equal."""
    keys = [(m.capability or 0.0, m.price.rates.output, m.price.rates.input) for m in states.models]
    ordered = sorted(set(keys))
    return np.array([ordered.index(key) for key in keys], np.int64)
