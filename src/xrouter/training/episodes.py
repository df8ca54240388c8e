"""Training episodes: the policy's choices played on replayed outcomes, in batches, with every choice recorded.

Axes: B episodes, M models, F features, A = M + 1 choices, N recorded choices of a batch.

Each episode draws its own query, lambda, pool (a random subset), prices (jittered) and models without a measured
profile, so that one policy learns every preference and every pool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..policies.features import Prior, View, look
from ..policies.network import Network, best_response_M, deliberate
from ..policies.odds import logit, sigmoid
from ..policies.states import Bools, Floats, Ints, States
from ..policies.turn_rules import Payoff
from ..rewards.reward import Reward
from ..tasks.outcomes import Outcomes, Recording
from ..tasks.replay import Replay
from .imagination import imagine

Floats32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """One set of outcomes with the cross-fitted prior of each (query, model).

    guess_QM: the chance a model would be given had nobody measured it.
    """

    outcomes: Outcomes
    prior: Prior
    guess_QM: Floats
    max_turns: int

    def __len__(self) -> int:
        return len(self.outcomes)

    def columns(self, index: Ints) -> TrainingSet:
        """These models only."""
        return TrainingSet(
            self.outcomes.columns(index), self.prior.columns(index), self.guess_QM[:, index], self.max_turns
        )


@dataclass(frozen=True)
class Sampling:
    """How episodes are drawn.

    Lambda is log-uniform between the bounds; within the narrower focus, where quality and cost really compete,
    with probability `focus_share`; and 0 with probability `free_share`. Noise on the prior's logits and jitter of
    the prices keep the network from recognising training queries by them. `imagined_share` of the groups play on
    outcomes drawn anew (see `imagination`) instead of the recorded ones. A batch shows at most `most_models` of the pool.
    """

    min_weight: float = 3e-3
    max_weight: float = 300.0
    focus_min: float = 0.02
    focus_max: float = 1.0
    focus_share: float = 0.45
    free_share: float = 0.05
    full_pool_share: float = 0.4
    price_jitter: float = 0.4
    unmeasured_share: float = 0.1
    skill_noise: float = 0.35
    imagined_share: float = 0.5
    most_models: int = 32


@dataclass(frozen=True, eq=False)
class Draw:
    """B episodes before their first choice; `repeat` in a row are equal.

    world: what calling would show, one row an episode. score_BM: its answer key, NaN where a model is absent.
    recorded_B: False where that world is imagined.
    query_B: the recorded queries they come from.
    """

    query_B: Ints
    world: Recording
    score_BM: Floats
    recorded_B: Bools
    states: States
    prior: Prior
    repeat: int = 1


def draw(
    data: TrainingSet, query_B: Ints, sampling: Sampling, rng: np.random.Generator, repeat: int = 1
) -> Draw:
    """One episode for each query, `repeat` times over with everything but the choices equal (a group)."""
    B, M = len(query_B), len(data.outcomes.models)
    weight_B = draw_weights(B, sampling, rng)
    share_B = np.where(rng.random(B) < sampling.full_pool_share, 1.0, rng.uniform(0.1, 1.0, B))
    kept_BM = rng.random((B, M)) < share_B[:, None]
    kept_BM[np.arange(B), rng.integers(0, M, B)] = True
    factor_BM = np.exp(sampling.price_jitter * rng.standard_normal((B, M)))
    factor_BM[rng.random(B) < sampling.full_pool_share] = 1.0
    hidden_BM = rng.random((B, M)) < sampling.unmeasured_share
    noise_BM = sampling.skill_noise * rng.standard_normal((B, M))
    recorded_B = rng.random(B) >= sampling.imagined_share
    score_BM, answer_BM = outcomes_of(data, query_B, recorded_B, rng)

    query_B, weight_B, kept_BM, factor_BM, hidden_BM, noise_BM, score_BM, answer_BM, recorded_B = (
        np.repeat(value, repeat, axis=0)
        for value in (
            query_B,
            weight_B,
            kept_BM,
            factor_BM,
            hidden_BM,
            noise_BM,
            score_BM,
            answer_BM,
            recorded_B,
        )
    )
    recorded = data.outcomes.recording.rows(query_B)
    world = replace(recorded, answer_QM=answer_BM, cost_QM=recorded.cost_QM * factor_BM)
    states = Replay(world, data.max_turns).start(np.arange(len(query_B)), weight_B)
    none_left = ~(states.allowed_BM & kept_BM).any(1)
    kept_BM[none_left] = True
    base = data.prior.rows(query_B)
    chance_BM = np.where(hidden_BM, data.guess_QM[query_B], base.chance_BM)
    prior = replace(
        base,
        chance_BM=sigmoid(logit(chance_BM) + noise_BM),
        known_BM=~hidden_BM,
        cost_BM=base.cost_BM * factor_BM,
    )
    states = replace(states, allowed_BM=states.allowed_BM & kept_BM)
    return Draw(query_B, world, score_BM, recorded_B, states, prior, repeat)


def outcomes_of(
    data: TrainingSet, query_B: Ints, recorded_B: Bools, rng: np.random.Generator
) -> tuple[Floats, Ints]:
    """(score_BM, answer_BM) of these queries, as recorded or imagined; a query without answers has none then either."""
    score_BM, answer_BM = data.outcomes.score_QM[query_B], data.outcomes.recording.answer_QM[query_B]
    imagined_B1 = ~recorded_B[:, None]
    new_score_BM, new_answer_BM = imagine(data.prior.rows(query_B), rng)
    new_answer_BM = np.where((answer_BM >= 0).any(1, keepdims=True), new_answer_BM, -1)
    return (
        np.where(imagined_B1 & ~np.isnan(score_BM), new_score_BM, score_BM),
        np.where(imagined_B1, new_answer_BM, answer_BM),
    )


def draw_weights(size: int, sampling: Sampling, rng: np.random.Generator) -> Floats:
    """Lambdas of this many episodes."""
    focused = rng.random(size) < sampling.focus_share
    low = np.log(np.where(focused, sampling.focus_min, sampling.min_weight))
    high = np.log(np.where(focused, sampling.focus_max, sampling.max_weight))
    return np.where(rng.random(size) < sampling.free_share, 0.0, np.exp(rng.uniform(low, high)))


@dataclass(frozen=True, eq=False)
class Choices:
    """N recorded choices, as the network saw them.

    value_NA: of each choice when it was made, FORBIDDEN where illegal.
    episode_N: which episode of the batch. score_NM: the answer key, for the answer loss alone; NaN outside the
    pool and in imagined worlds, which hold nothing to learn about answers that `inference` does not say.
    """

    x_NMF: Floats32
    in_pool_NM1: Floats32
    responded_NM1: Floats32
    listed_N1: Floats32
    offset_NA: Floats
    legal_NA: Bools
    picked_N: Ints
    value_NA: Floats
    episode_N: Ints
    score_NM: Floats

    @cached_property
    def next_N(self) -> Ints:
        """Row of the same episode's next choice, -1 at its end."""
        return successors(self.episode_N)


@dataclass(frozen=True, eq=False)
class Played:
    """Finished episodes: what they were worth and every choice made on the way."""

    reward_B: Floats
    quality_B: Floats
    cost_B: Floats
    calls_B: Ints
    choices: Choices


def play(
    drawn: Draw,
    max_turns: int,
    network: Network,
    payoff: Payoff,
    reward: Reward,
    pick: Callable[[Floats, Bools], Ints],
) -> Played:
    """Plays every episode to its end. `pick` turns the values and legality of choices [B, A] into one each."""
    replay = Replay(drawn.world, max_turns)
    states, prior = drawn.states, drawn.prior
    B, M = states.allowed_BM.shape
    pending_BM = np.zeros((B, M), bool)
    answer_B = np.full(B, -1, np.int64)
    active = np.arange(B)
    rounds: list[Choices] = []
    views = look(prior, states)
    while len(active):
        listed = pending_BM[active]
        if not rounds:  # episodes of a group stand at the same choice
            once = active[:: drawn.repeat]
            now = deliberate(network, payoff, views.rows(once), pending_BM[once]).repeat(drawn.repeat)
        else:
            now = deliberate(network, payoff, views.rows(active), listed)
        picked = pick(now.value_BA, now.legal_BA)
        in_pool = now.in_pool_BM1[:, :, 0] > 0
        rounds.append(
            Choices(
                x_NMF=now.x_BMF,
                in_pool_NM1=now.in_pool_BM1,
                responded_NM1=now.responded_BM1,
                listed_N1=now.listed_B1,
                offset_NA=now.offset_BA,
                legal_NA=now.legal_BA,
                picked_N=picked,
                value_NA=now.value_BA,
                episode_N=active,
                score_NM=np.where(in_pool & drawn.recorded_B[active, None], drawn.score_BM[active], np.nan),
            )
        )

        go_now = picked == M
        adders = active[~go_now]
        pending_BM[adders, picked[~go_now]] = True
        single_turn = (states.turns_left_B[active] <= 1) & ~go_now
        calling = (go_now & listed.any(1)) | single_turn
        callers = active[calling]
        if len(callers):
            after = replay.call(callers, states.rows(callers), pending_BM[callers])
            states = _put(states, callers, after)
            _look_again(views, callers)
            pending_BM[callers] = False
        over = (go_now & ~listed.any(1)) | (states.turns_left_B[active] <= 0)
        ended = active[over]
        answer_B[ended] = best_response_M(now.chance_BM[over], states.rows(ended))
        active = active[~over]

    score_B = np.nan_to_num(drawn.score_BM)[np.arange(B), np.maximum(answer_B, 0)]
    quality_B = np.where(answer_B >= 0, score_B, 0.0)
    cost_B = states.cost_BM.sum(1)
    reward_B = reward.reward(quality_B, cost_B / prior.reference_cost, states.cost_weight_B)
    return Played(reward_B, quality_B, cost_B, states.responded_BM.sum(1), stack(rounds))


def stack(rounds: Sequence[Choices]) -> Choices:
    """The choices of all rounds as one."""
    return Choices(**{f.name: np.concatenate([getattr(r, f.name) for r in rounds]) for f in fields(Choices)})


def successors(episode_N: Ints) -> Ints:
    """For each row the row of the same episode that follows it, -1 for an episode's last."""
    order = np.argsort(episode_N, kind="stable")
    follows = episode_N[order[1:]] == episode_N[order[:-1]]
    out = np.full(len(episode_N), -1, np.int64)
    out[order[:-1][follows]] = order[1:][follows]
    return out


def _look_again(views: View, rows: Ints) -> None:
    """Renews these rows of the views after calls; the arrays are the batch's own and are written in place."""
    new = look(views.prior.rows(rows), views.states.rows(rows))
    views.fixed_BMF[rows] = new.fixed_BMF
    views.chance_logit_BM[rows] = new.chance_logit_BM
    views.inference.chance_BM[rows] = new.inference.chance_BM
    views.inference.after_BM[rows] = new.inference.after_BM


def _put(states: States, rows: Ints, part: States) -> States:
    """`states` with these rows replaced; the arrays are the batch's own and are written in place."""
    for name in (
        "turns_left_B",
        "allowed_BM",
        "responded_BM",
        "answer_BM",
        "tokens_BM",
        "cost_BM",
        "doubt_BM",
    ):
        getattr(states, name)[rows] = getattr(part, name)
    return states
