"""A network that learns to decide as a teacher does, on outcomes whose structure is known."""

from __future__ import annotations

import numpy as np
import pytest
from outcomes_kit import MODELS, synthetic_outcomes, synthetic_tables
from recorded_router_kit import by_topic, policy_of

from xrouter.errors import ConfigurationError, DataError
from xrouter.evaluation.contestants import baseline_policy
from xrouter.evaluation.decisions import play
from xrouter.evaluation.imitation import agreement, differences
from xrouter.evaluation.tool_calling.joined import joined
from xrouter.evaluation.tool_calling.play import RouterRun, play_router
from xrouter.policies.checkpoint import Provenance, load_network, save_network
from xrouter.training.config import TrainingConfig
from xrouter.training.distill.imitation import ImitationConfig, distil
from xrouter.training.distill.teaching import teaching, without_gaps
from xrouter.training.distill.trajectories import trajectories
from xrouter.training.trainer import untrained_policy
from xrouter.training.warm_start import training_set

NAMES = list(MODELS)
WEIGHTS = (0.0, 0.1, 1.0)
NETWORK = TrainingConfig(dimensions=8, landmarks=8, vocabulary=300, hidden=32, validation_share=0.2)
CONFIG = ImitationConfig(NETWORK, epochs=60, batch=64, patience=20)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    return synthetic_outcomes(tmp_path_factory.mktemp("kit") / "kit")


def scripted(part, rule, weights=WEIGHTS):
    """(turn_WQM, answer_from_WQ) of a rule: (topic, lambda) -> (lists of models a turn, the model handed over)."""
    turn = np.zeros((len(weights), len(part), len(NAMES)), np.int64)
    source = np.full(turn.shape[:2], -1)
    for w, weight in enumerate(weights):
        for q, dataset in enumerate(part.datasets):
            turns, answer = rule(dataset.rpartition("/")[2], weight)
            for number, models in enumerate(turns, start=1):
                turn[w, q, [NAMES.index(name) for name in models]] = number
            source[w, q] = -1 if answer is None else NAMES.index(answer)
    return turn, source


def stubborn(topic, weight):
    """Pays for what it need not, and no profile would say so: `large` on sums; on poems the wrong one first, then both."""
    if topic == "sums":
        return [["large"]], "large"
    return [["small-sums"], ["weak", "small-poems"]], "small-poems"


def by_lambda(topic, weight):
    small = f"small-{topic}"
    return (
        ([["large", small]], small)
        if weight < 0.05
        else ([["weak"]], "weak")
        if weight > 0.5
        else ([[small]], small)
    )


def student_of(outcomes, rule, config=CONFIG):
    train = outcomes.split("train")
    return distil(train, teaching(train, WEIGHTS, *scripted(train, rule)), config)


def same_share(policy, outcomes, rule, weights=WEIGHTS):
    """Of held-out queries: every turn and the answer as the teacher's."""
    test = outcomes.split("test")
    turn, source = scripted(test, rule, weights)
    found = play(policy, test.recording, test.query_ids, weights, 3)
    return float(((found.turn_WQM == turn).all(2) & (found.answer_from_WQ == source)).mean())


@pytest.fixture(scope="module")
def stubborn_student(outcomes):
    return student_of(outcomes, stubborn)


def test_a_teacher_that_no_profile_would_predict_is_followed_on_held_out_queries(outcomes, stubborn_student):
    assert same_share(stubborn_student.policy, outcomes, stubborn) > 0.95
    assert stubborn_student.agreement > 0.95
    assert stubborn_student.unreachable == 0


def test_without_the_teacher_it_decides_otherwise(outcomes, stubborn_student):
    """The control of the test above: profiles alone, or another teacher's student, do not pass it."""
    assert same_share(stubborn_student.plain, outcomes, stubborn) < 0.5
    assert same_share(stubborn_student.policy, outcomes, by_lambda) < 0.5


def test_what_the_teacher_does_at_each_lambda_is_learnt(outcomes):
    assert same_share(student_of(outcomes, by_lambda).policy, outcomes, by_lambda) > 0.95


def test_a_language_model_is_distilled(outcomes, tmp_path):
    policy, _ = policy_of(by_topic)
    parts = {split: outcomes.split(split) for split in ("train", "test")}
    made = {
        split: joined(
            play_router(policy, part, RouterRun(cost_weights=WEIGHTS), tmp_path / split), part, None
        )[0]
        for split, part in parts.items()
    }
    own = made["train"].own
    taught = teaching(
        parts["train"], WEIGHTS, made["train"].turn_WQM, made["train"].answer_from_WQ, own.stood_in_WQ
    )
    found = distil(parts["train"], taught, CONFIG)
    test = parts["test"]
    student = play(found.policy, test.recording, test.query_ids, WEIGHTS, 3)
    same = agreement(made["test"], student, 50, 0)
    assert min(same.first.value, same.calls.value, same.answer.value, same.all.value) > 0.95
    for one in differences(made["test"], student, test, 50, 0):
        assert abs(one.score.value) < 0.05
        assert one.cost_usd.high < 0  # the same calls, without the router's tokens


def test_the_checkpoint_decides_as_the_student(outcomes, stubborn_student, tmp_path):
    save_network(stubborn_student.policy, tmp_path / "policy.npz", Provenance())
    assert same_share(load_network(tmp_path), outcomes, stubborn) > 0.95


def test_equal_seeds_give_equal_weights(outcomes):
    short = ImitationConfig(NETWORK, epochs=2, batch=64)
    first, second = (student_of(outcomes, stubborn, short).policy for _ in range(2))
    assert first.version == second.version
    other = ImitationConfig(
        TrainingConfig(**{**NETWORK.as_dict(), "seed": 1, "sampling": NETWORK.sampling}), 2
    )
    assert student_of(outcomes, stubborn, other).policy.version != first.version


def test_an_array_policy_can_teach(outcomes):
    train = outcomes.split("train")
    knn = baseline_policy("knn", train)
    made = play(knn, train.recording, train.query_ids, WEIGHTS, 3)
    found = distil(train, teaching(train, WEIGHTS, made.turn_WQM, made.answer_from_WQ), CONFIG)
    test = outcomes.split("test")
    theirs, ours = (
        play(policy, test.recording, test.query_ids, WEIGHTS, 3) for policy in (knn, found.policy)
    )
    assert agreement(theirs, ours, 20, 0).all.value > 0.95


# --- what is learnt from ---


def choices_of(outcomes, rule, weights=(0.1,), rows=(0, 1)):
    train = outcomes.split("train").rows(list(rows))
    plain = untrained_policy([outcomes.split("train")], NETWORK)
    data = training_set(train, plain.encoder, plain.profiles, max_turns=3, seed=0)
    taught = teaching(train, weights, *scripted(train, rule, weights))
    return trajectories(taught, data.prior, 3, np.random.default_rng(0))


def names(row):
    return {(*NAMES, "go")[i] for i in np.flatnonzero(row)}


def test_turns_become_small_choices(outcomes):
    made = choices_of(outcomes, stubborn, rows=(1,))
    assert [names(row) for row in made.right_NA] == [
        {"small-sums"},
        {"go"},
        {"weak", "small-poems"},  # either may be added first
        names(made.right_NA[3]),
        {"go"},
        {"go"},
    ]
    assert len(names(made.right_NA[3]) & {"weak", "small-poems"}) == 1
    assert (made.right_NA <= made.legal_NA).all()
    assert made.selected_N.tolist() == [-1, -1, -1, -1, -1, NAMES.index("small-poems")]
    assert made.view.states.turns_left_B.tolist() == [3, 3, 2, 2, 2, 1]


def test_a_call_that_the_network_may_not_make_is_counted(outcomes):
    made = choices_of(outcomes, lambda topic, weight: ([["weak"], ["large"]], "large"), weights=(1000.0,))
    assert made.unreachable == 2  # at this lambda no right answer is worth `large`
    assert (made.right_NA <= made.legal_NA).all()


def test_a_third_round_of_calls_is_beyond_the_network(outcomes):
    made = choices_of(outcomes, lambda topic, weight: ([["weak"], ["small-sums"], ["small-poems"]], "weak"))
    assert made.unreachable == 2
    assert names(made.right_NA[-1]) == {"go"}


def test_own_words_and_stand_ins_are_left_out(outcomes):
    train = outcomes.split("train").rows([0, 1, 2])
    turn, source = scripted(train, lambda topic, weight: ([["weak"]], "weak"), (0.1,))
    turn[0, 0], source[0, 0] = 0, -1
    stood_in = np.array([[False, True, False]])
    taught = teaching(train, (0.1,), turn, source, stood_in)
    assert taught.query_E.tolist() == [2]
    assert list(taught.left_out.values()) == [1, 1]


def test_a_synthesis_teaches_its_calls(outcomes):
    made = choices_of(outcomes, lambda topic, weight: ([["weak", "large"]], None), rows=(0,))
    assert names(made.right_NA[-1]) == {"go"}
    assert made.selected_N[-1] == -1


def test_refused_turns_leave_no_gap():
    assert without_gaps(np.array([[0, 2, 3, 2], [1, 0, 3, 0]])).tolist() == [[0, 1, 2, 1], [1, 0, 2, 0]]


def test_teachers_that_teach_nothing_are_refused(outcomes):
    train = outcomes.split("train").rows([0, 1])
    with pytest.raises(DataError, match="nothing to learn"):
        teaching(train, (0.1,), np.zeros((1, 2, 4), int), np.full((1, 2), -1))
    with pytest.raises(DataError, match="do not fit"):
        teaching(train, (0.1,), np.zeros((1, 3, 4), int), np.full((1, 3), -1))


@pytest.mark.parametrize("fields", [{"epochs": 0}, {"batch": 0}, {"learning_rate": 0.0}])
def test_settings_that_cannot_be(fields):
    with pytest.raises(ConfigurationError, match=next(iter(fields))):
        ImitationConfig(NETWORK, **fields)


def test_few_queries_of_the_teacher_are_enough_to_start(tmp_path):
    outcomes = synthetic_outcomes(tmp_path / "kit", synthetic_tables(60, 10))
    train = outcomes.split("train").rows([0, 1, 2, 3])
    taught = teaching(train, WEIGHTS, *scripted(train, stubborn))
    found = distil(outcomes.split("train"), taught, ImitationConfig(NETWORK, epochs=2))
    assert found.choices
