from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from learner_kit import fitted_policy, tiny_config
from synthetic import synthetic_outcomes

from xrouter.policies.features import SCALE
from xrouter.policies.inference import infer
from xrouter.policies.network import NetworkPolicy, Payoff
from xrouter.policies.odds import logit
from xrouter.policies.states import States
from xrouter.rewards.cost_aware import CostAwareReward
from xrouter.rewards.linear import LinearReward
from xrouter.tasks.replay import Replay
from xrouter.training.config import TrainingConfig
from xrouter.training.episodes import Draw, Played, Sampling, TrainingSet, draw, play, successors
from xrouter.training.trainer import Trainer, prepare
from xrouter.training.warm_start import as_network, training_set

OUTCOMES = synthetic_outcomes(seed=6, queries=60, models=5)
M = 5


@pytest.fixture(scope="module")
def policy() -> NetworkPolicy:
    return fitted_policy(OUTCOMES)


@pytest.fixture(scope="module")
def data(policy: NetworkPolicy) -> TrainingSet:
    return training_set(OUTCOMES, policy.encoder, policy.profiles, max_turns=3, seed=0)


def silent(x: np.ndarray, in_pool: np.ndarray, responded: np.ndarray) -> tuple:
    """A network without opinions."""
    return np.zeros(x.shape[:2]), np.zeros(x.shape[:2]), np.zeros((len(x), 2))


def anything_legal(seed: int):
    rng = np.random.default_rng(seed)
    return lambda value, legal: np.where(legal, rng.random(legal.shape), -1.0).argmax(1)


def played_at_random(data: TrainingSet, reward: object, seed: int = 0) -> tuple[Draw, Played]:
    rng = np.random.default_rng(seed)
    drawn = draw(data, rng.integers(0, len(data), 200), Sampling(), rng)
    before = replace(drawn, states=drawn.states.rows(np.arange(200)))
    return before, play(drawn, data.max_turns, silent, Payoff(), reward, anything_legal(seed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("episode", "expected"),
    [
        ([0, 1, 2, 0, 2, 0], [3, -1, 4, 5, -1, -1]),
        ([0], [-1]),
        ([2, 1, 0], [-1, -1, -1]),
        ([7, 7, 7], [1, 2, -1]),
        ([], []),
    ],
)
def test_successors(episode: list[int], expected: list[int]) -> None:
    assert successors(np.array(episode, np.int64)).tolist() == expected


@pytest.mark.parametrize("max_turns", [1, 2, 3])
@pytest.mark.parametrize("reward", [LinearReward(), CostAwareReward(1.0, 0.8)])
def test_rewards_worked_out_again_from_the_recorded_choices(
    data: TrainingSet, max_turns: int, reward: LinearReward | CostAwareReward
) -> None:
    data = replace(data, max_turns=max_turns)
    drawn, played = played_at_random(data, reward)
    choices = played.choices
    seen_calls = set()
    for b in range(len(drawn.query_B)):
        turns, listed, called, over = max_turns, set(), set(), False
        for row in np.flatnonzero(choices.episode_N == b):
            assert not over, "a choice was recorded after the end"
            pick = choices.picked_N[row]
            assert choices.legal_NA[row, pick]
            assert choices.listed_N1[row, 0] == bool(listed)
            assert set(np.flatnonzero(choices.responded_NM1[row, :, 0])) == called
            if pick < M:
                assert drawn.states.allowed_BM[b, pick]
                assert pick not in called | listed
                listed.add(pick)
            elif not listed:
                over = True
            if listed and (pick == M or turns == 1):
                called |= listed
                listed = set()
                turns -= 1
                over = turns == 0
        assert over
        seen_calls.add(len(called))
        asked = np.isin(np.arange(M), list(called))
        same = drawn.prior.same_B2[b : b + 1]
        chance = infer(
            logit(drawn.prior.chance_BM[b : b + 1]).clip(-SCALE, SCALE),
            np.where(asked & (max_turns > 1), drawn.world.answer_QM[b], -1)[None],
            same[:, 0],
            same[:, 1],
            drawn.prior.loadings_ME,
        ).chance_BM[0]
        answer = max(called, key=lambda m: chance[m])
        cost = sum(drawn.world.cost_QM[b, m] for m in called)
        quality = drawn.score_BM[b, answer]
        assert played.calls_B[b] == len(called)
        assert played.cost_B[b] == pytest.approx(cost, rel=1e-9)
        assert played.quality_B[b] == quality
        penalty = drawn.states.cost_weight_B[b] * cost / data.prior.reference_cost
        gated = isinstance(reward, CostAwareReward)
        worth = quality * (1.0 - min(penalty, 0.8)) if gated else quality - penalty
        assert played.reward_B[b] == pytest.approx(worth, rel=1e-9, abs=1e-12)
    assert seen_calls == {1} if max_turns == 1 else len(seen_calls) > 2


def test_recorded_choices_are_chained_and_know_only_scores_of_their_pool(data: TrainingSet) -> None:
    drawn, played = played_at_random(data, LinearReward())
    choices = played.choices
    np.testing.assert_array_equal(choices.next_N, successors(choices.episode_N))
    followed = choices.next_N >= 0
    assert (choices.next_N[followed] > np.flatnonzero(followed)).all()
    inside = choices.in_pool_NM1[:, :, 0] > 0
    truth = drawn.score_BM[choices.episode_N]
    recorded = inside & drawn.recorded_B[choices.episode_N, None]
    np.testing.assert_array_equal(choices.score_NM[recorded], truth[recorded])
    assert np.isnan(choices.score_NM[~recorded]).all()
    assert recorded.any()
    assert (inside & ~recorded).any()
    assert inside.any(1).all()
    assert not inside.all()


def test_a_group_shares_everything_but_the_choices(data: TrainingSet) -> None:
    rng = np.random.default_rng(4)
    queries = rng.integers(0, len(data), 12)
    drawn = draw(data, queries, Sampling(full_pool_share=0.2), rng, repeat=6)
    arrays = [drawn.query_B, drawn.score_BM, drawn.world.cost_QM, drawn.world.answer_QM]
    arrays += [getattr(drawn.states, name) for name in States.__annotations__ if name != "models"]
    arrays += [getattr(drawn.prior, name) for name in ("chance_BM", "tokens_BM", "cost_BM", "known_BM")]
    for array in arrays:
        groups = array.reshape(12, 6, *array.shape[1:])
        np.testing.assert_array_equal(groups, np.broadcast_to(groups[:, :1], groups.shape))
    np.testing.assert_array_equal(drawn.query_B[::6], queries)
    assert len(np.unique(drawn.states.cost_weight_B)) > 6, "groups differ from one another"
    played = play(drawn, data.max_turns, silent, Payoff(), LinearReward(), anything_legal(0))
    assert (np.ptp(played.reward_B.reshape(12, 6), axis=1) > 0).any()


def test_playing_leaves_the_recording_as_it_was(data: TrainingSet) -> None:
    record = OUTCOMES.recording
    before = (record.present_QM.copy(), record.cost_QM.copy(), data.prior.chance_BM.copy())
    played_at_random(data, LinearReward())
    for one, other in zip(before, (record.present_QM, record.cost_QM, data.prior.chance_BM), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_drawn_is_playable(data: TrainingSet) -> None:
    present = OUTCOMES.recording.present_QM.copy()
    present[:, 1] = False
    present[::2, 2] = False
    record = replace(OUTCOMES.recording, present_QM=present)
    score = np.where(present, OUTCOMES.score_QM, np.nan)
    data = replace(data, outcomes=replace(OUTCOMES, recording=record, score_QM=score))
    sampling = Sampling(full_pool_share=0.3, unmeasured_share=0.5)
    rng = np.random.default_rng(0)
    drawn = draw(data, rng.integers(0, len(data), 500), sampling, rng)
    allowed = drawn.states.allowed_BM
    assert allowed.any(1).all(), "every episode has a model to call"
    assert not (allowed & ~present[drawn.query_B]).any(), "and none that was never asked"
    assert 0.3 < allowed.mean() < present.mean()
    factor = drawn.prior.cost_BM / data.prior.cost_BM[drawn.query_B]
    np.testing.assert_allclose(drawn.world.cost_QM, record.cost_QM[drawn.query_B] * factor, rtol=1e-9)
    assert (factor > 0).all()
    assert 0.2 < (factor == 1).mean() < 0.4
    assert (np.isnan(drawn.score_BM) == ~present[drawn.query_B]).all()
    assert 0.4 < 1 - drawn.prior.known_BM.mean() < 0.6
    assert ((drawn.prior.chance_BM > 0) & (drawn.prior.chance_BM < 1)).all()


def test_lambdas_lie_between_their_bounds_or_are_nothing(data: TrainingSet) -> None:
    sampling = Sampling(min_weight=0.1, max_weight=1.0, focus_min=0.2, focus_max=0.5, free_share=0.3)
    rng = np.random.default_rng(0)
    weight = draw(data, np.zeros(2000, np.int64), sampling, rng).states.cost_weight_B
    paid = weight[weight > 0]
    assert 0.25 < (weight == 0).mean() < 0.35
    assert 0.1 <= paid.min() < 0.15
    assert 0.8 < paid.max() <= 1.0


def test_the_greedy_policy_trains_on_the_episodes_it_serves(policy: NetworkPolicy, data: TrainingSet) -> None:
    """`play` with the best choice each time makes the calls of `NetworkPolicy` under `Replay`."""
    record = OUTCOMES.recording
    text = policy.encode(record.prompts)
    query = np.tile(np.arange(len(data)), 4)
    weight = np.repeat([0.0, 0.02, 0.3, 5.0], len(data))
    for max_turns in (1, 2, 3):
        replay = Replay(record, max_turns)
        states = replay.start(query, weight)
        prior = policy.prior(text[query], states)
        drawn = Draw(
            query, record.rows(query), OUTCOMES.score_QM[query], np.ones(len(query), bool), states, prior
        )
        tensors = {name: torch.from_numpy(value) for name, value in policy.parameters.items()}
        played = play(
            drawn,
            max_turns,
            as_network(tensors),
            policy.payoff,
            LinearReward(),
            lambda value, legal: value.argmax(1),
        )
        served = replay.run(policy, text, query, weight)
        np.testing.assert_array_equal(played.calls_B, served.called_BM.sum(1))
        np.testing.assert_allclose(played.cost_B, served.cost_B, rtol=1e-12)
        np.testing.assert_array_equal(played.quality_B, OUTCOMES.scores_of(query, served.answer_from_B))
    assert served.called_BM.sum(1).max() > 1


@pytest.mark.parametrize(
    "config",
    [
        tiny_config(),
        tiny_config(success_bonus=1.7),
        tiny_config(reward="cost_aware"),
        tiny_config(reward="cost_aware", success_bonus=1.5, penalty_cap=1.2),
        tiny_config(reward="cost_aware", penalty_cap=0.0),
    ],
)
def test_the_policys_payoff_is_the_reward_it_is_trained_on(config: TrainingConfig) -> None:
    trainer = Trainer(prepare([OUTCOMES], config), config)
    rng = np.random.default_rng(0)
    quality, cost, weight = rng.random(500), rng.lognormal(0, 2, 500), rng.lognormal(-1, 2, 500)
    np.testing.assert_allclose(
        trainer.payoff(quality, weight * cost), trainer.reward.reward(quality, cost, weight), rtol=1e-12
    )
