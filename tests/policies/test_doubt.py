"""What flaws, and likeness in place of equality, do to the chances that a policy reckons with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from learner_kit import fitted_policy, random_states
from synthetic import synthetic_outcomes

from xrouter.policies.doubt import CUT_AFTER_ANSWER, NO_ANSWER
from xrouter.policies.features import FREE_TEXT_SAME, Prior, look
from xrouter.policies.network import best_response_M
from xrouter.policies.states import States
from xrouter.tasks.replay import Replay

OUTCOMES = synthetic_outcomes(seed=12, queries=80, models=4)
POLICY = fitted_policy(OUTCOMES, noise=0.0)


def situation(answers: list[list[int]], chances: list[float], **fields: object) -> tuple[Prior, States]:
    """Episodes of four models, -2 where one was not asked; wrong and right answers are equal as often as usual."""
    answer_BM = np.array(answers)
    batch, models = answer_BM.shape
    base = random_states(np.random.default_rng(0), OUTCOMES.models, batch)
    states = replace(
        base,
        money_left_B=np.full(batch, np.inf),
        turns_left_B=np.full(batch, 2),
        responded_BM=answer_BM > -2,
        allowed_BM=answer_BM == -2,
        failed_BM=np.zeros((batch, models), bool),
        answer_BM=np.maximum(answer_BM, -1),
        **fields,
    )
    prior = POLICY.prior(POLICY.encode(OUTCOMES.recording.prompts[:batch]), states)
    prior = replace(
        prior,
        chance_BM=np.tile(chances, (batch, 1)),
        same_B2=np.tile([0.2, 0.95], (batch, 1)),
        loadings_ME=np.zeros((models, 2)),
    )
    return prior, states


def chances(answers: list[list[int]], **fields: object) -> np.ndarray:
    return look(*situation(answers, [0.6, 0.6, 0.6, 0.6], **fields)).inference.chance_BM


def test_an_answer_in_doubt_loses_its_log_odds() -> None:
    sound = chances([[-1, -2, -2, -2]])
    for doubt in (CUT_AFTER_ANSWER, NO_ANSWER):
        doubted = chances([[-1, -2, -2, -2]], doubt_BM=np.array([[doubt, 0.0, 0.0, 0.0]]))
        np.testing.assert_allclose(doubted[0, 0], 1 / (1 + np.exp(doubt - np.log(0.6 / 0.4))), rtol=1e-6)
        np.testing.assert_array_equal(doubted[:, 1:], sound[:, 1:])


def test_a_vote_in_doubt_weighs_less_and_is_itself_worth_least() -> None:
    agreeing = [[0, 0, -2, -2]]
    sound = chances(agreeing)
    doubted = chances(agreeing, doubt_BM=np.array([[0.0, CUT_AFTER_ANSWER, 0.0, 0.0]]))
    alone = chances([[0, -2, -2, -2]])
    assert alone[0, 0] < doubted[0, 0] < sound[0, 0]
    assert doubted[0, 1] < doubted[0, 0]


def test_doubt_of_a_model_that_did_not_respond_is_none() -> None:
    asked = [[0, -2, -2, -2]]
    doubted = chances(asked, doubt_BM=np.array([[0.0, NO_ANSWER, NO_ANSWER, 0.0]]))
    np.testing.assert_array_equal(doubted, chances(asked))


def test_a_sound_response_is_chosen_before_a_doubted_one_of_a_better_model() -> None:
    prior, states = situation(
        [[-1, -1, -2, -2]], [0.95, 0.3, 0.6, 0.6], doubt_BM=np.array([[NO_ANSWER, 0.0, 0.0, 0.0]])
    )
    assert best_response_M(look(prior, states).inference.chance_BM, states).tolist() == [1]


def test_texts_that_are_alike_raise_the_chance_less_than_answers_that_are_equal() -> None:
    agreeing, unread = [[0, 0, -2, -2]], [[-1, -1, -2, -2]]
    equal, alike = chances(agreeing), chances(agreeing, alike_B=np.array([True]))
    none = chances(unread)
    assert none[0, 0] < alike[0, 0] < equal[0, 0]
    assert alike[0, 0] - none[0, 0] < 0.5 * (equal[0, 0] - none[0, 0])
    # as measured on the recorded task where likeness tells least: 0.71 from 0.6
    assert alike[0, 0] < 0.73
    assert FREE_TEXT_SAME[0] < FREE_TEXT_SAME[1]


def test_one_episode_of_likeness_leaves_the_others_as_they_are() -> None:
    both = [[0, 0, -2, -2], [0, 0, 1, -2]]
    mixed = chances(both, alike_B=np.array([True, False]))
    np.testing.assert_array_equal(mixed[1], chances(both)[1])


def test_without_flaws_nothing_changes_in_any_bit() -> None:
    states = random_states(np.random.default_rng(3), OUTCOMES.models, 60)
    text = POLICY.encode(OUTCOMES.recording.prompts[:60])
    stated = replace(states, doubt_BM=np.zeros_like(states.cost_BM), alike_B=np.zeros(60, bool))
    one, other = POLICY.decide(text, states), POLICY.decide(text, stated)
    np.testing.assert_array_equal(one.call_BM, other.call_BM)
    np.testing.assert_array_equal(one.select_B, other.select_B)
    np.testing.assert_array_equal(one.confidence_B, other.confidence_B)


def test_rows_of_states_carry_doubt_and_likeness() -> None:
    states = random_states(np.random.default_rng(3), OUTCOMES.models, 6)
    states = replace(states, doubt_BM=np.arange(24.0).reshape(6, 4), alike_B=np.arange(6) % 2 == 0)
    some = states.rows(np.array([4, 1]))
    np.testing.assert_array_equal(some.doubt_BM, [[16, 17, 18, 19], [4, 5, 6, 7]])
    assert some.alike_B.tolist() == [True, False]


def test_a_recorded_answer_that_a_cap_cuts_off_is_in_doubt() -> None:
    replay = Replay(OUTCOMES.recording, 3)
    query = np.arange(80)
    states = replay.start(query, np.zeros(80), max_cost_usd_B=np.full(80, 3e-4))
    after = replay.call(query, states, states.allowed_BM)
    cut = after.responded_BM & (after.tokens_BM < OUTCOMES.recording.tokens_QM)
    assert 0 < cut.sum() < after.responded_BM.sum()
    np.testing.assert_array_equal(after.doubt_BM, np.where(cut, NO_ANSWER, 0.0))
