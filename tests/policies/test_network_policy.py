from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_model
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_kit import fitted_policy, noisy_parameters, random_states
from synthetic import synthetic_outcomes

from xrouter.catalog.price import Price, Rates
from xrouter.policies.arrays import ServedPolicy
from xrouter.policies.checkpoint import Provenance, load_network, save_network
from xrouter.policies.features import FEATURES, features, look
from xrouter.policies.network import MAX_CALLS_PER_TURN, NetworkPolicy, Payoff, forward, pool_masks
from xrouter.policies.states import Choices, Floats, States

OUTCOMES = synthetic_outcomes(seed=1, queries=80, models=6)
MODELS = OUTCOMES.models
PROMPTS = OUTCOMES.recording.prompts


@pytest.fixture(scope="module")
def policy() -> NetworkPolicy:
    return fitted_policy(OUTCOMES)


@pytest.fixture(scope="module")
def wild() -> NetworkPolicy:
    """Corrections far larger than the starting points: only the rules hold it back."""
    return fitted_policy(OUTCOMES, noise=3.0)


def some_text(policy: NetworkPolicy, batch: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return policy.encode([PROMPTS[i] for i in rng.integers(0, len(PROMPTS), batch)])


def fresh(models: tuple = MODELS, batch: int = 1, cost_weight: float = 0.1, **fields: object) -> States:
    """Nothing called yet."""
    shape = (batch, len(models))
    values: dict[str, object] = {
        "cost_weight_B": np.full(batch, cost_weight),
        "target_quality_B": np.full(batch, np.nan),
        "turns_left_B": np.full(batch, 3),
        "money_left_B": np.full(batch, np.inf),
        "prompt_tokens_B": np.full(batch, 100.0),
        "allowed_BM": np.ones(shape, bool),
        "responded_BM": np.zeros(shape, bool),
        "failed_BM": np.zeros(shape, bool),
        "answer_BM": np.full(shape, -1),
        "tokens_BM": np.zeros(shape),
        "cost_BM": np.zeros(shape),
    }
    return States(models, **(values | fields))  # type: ignore[arg-type]


def permuted(states: States, order: np.ndarray, models: tuple | None = None) -> States:
    columns = {
        name: getattr(states, name)[:, order]
        for name in ("allowed_BM", "responded_BM", "failed_BM", "answer_BM", "tokens_BM", "cost_BM")
    }
    return replace(states, models=models or tuple(states.models[i] for i in order), **columns)


def test_the_forward_pass_is_the_same_in_numpy_and_torch(policy: NetworkPolicy) -> None:
    rng = np.random.default_rng(0)
    states = random_states(rng, MODELS, 40)
    pending = states.allowed_BM & (rng.random(states.allowed_BM.shape) < 0.3)
    x = features(look(policy.prior(some_text(policy, 40), states), states), pending)
    inputs = (x, *pool_masks(states, pending))
    weights = noisy_parameters(1, 0.3)
    ours = forward(weights, *inputs)
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    theirs = forward(tensors, *(torch.from_numpy(value) for value in inputs))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-4, atol=1e-4)
        assert np.abs(one).max() > 0.01


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_features_are_finite_in_every_situation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    states = random_states(rng, MODELS, 8)
    policy = _cached("policy")
    pending = states.allowed_BM & (rng.random(states.allowed_BM.shape) < 0.5)
    x = features(look(policy.prior(some_text(policy, 8, seed), states), states), pending)
    assert x.shape == (8, len(MODELS), len(FEATURES))
    assert np.isfinite(x).all()


_KEPT: dict[str, NetworkPolicy] = {}


def _cached(name: str) -> NetworkPolicy:
    """Policies for hypothesis, which wants no function-scoped state."""
    if name not in _KEPT:
        _KEPT[name] = fitted_policy(OUTCOMES, noise=3.0 if name == "wild" else 0.1)
    return _KEPT[name]


@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(["policy", "wild"]))
@settings(max_examples=250, deadline=None)
def test_no_illegal_choice_is_ever_made(seed: int, name: str) -> None:
    policy = _cached(name)
    states = random_states(np.random.default_rng(seed), MODELS, 12)
    text = some_text(policy, 12, seed)
    prior, choices = policy.prior(text, states), policy.decide(text, states)
    for b in range(12):
        called = choices.call_BM[b]
        affordable = states.allowed_BM[b] & (prior.cost_BM[b] <= states.money_left_B[b])
        assert not (called & ~states.allowed_BM[b]).any(), "a model was called that may not be"
        assert called.sum() <= MAX_CALLS_PER_TURN
        assert (prior.cost_BM[b] * called).sum() <= states.money_left_B[b] * (1 + 1e-9)
        if states.turns_left_B[b] <= 1:
            assert called.sum() <= (0 if states.responded_BM[b].any() else 1), "the last turn hands over"
        select = choices.select_B[b]
        if select >= 0:
            assert states.responded_BM[b, select]
            assert not called.any()
        if not called.any():
            assert select >= 0 or (not states.responded_BM[b].any() and not affordable.any()), (
                "it did nothing although something could be done"
            )
        assert 0.0 <= choices.confidence_B[b] <= 1.0


def _assert_same(one: Choices, other: Choices) -> None:
    np.testing.assert_array_equal(one.call_BM, other.call_BM)
    np.testing.assert_array_equal(one.select_B, other.select_B)
    np.testing.assert_allclose(one.confidence_B, other.confidence_B, atol=1e-4)


@pytest.mark.parametrize("name", ["policy", "wild"])
def test_deciding_for_a_batch_is_deciding_row_by_row(name: str) -> None:
    policy = _cached(name)
    states = random_states(np.random.default_rng(3), MODELS, 64)
    text = some_text(policy, 64)
    together = policy.decide(text, states)
    assert together.call_BM.any()
    assert (together.select_B >= 0).any()
    for b in range(64):
        alone = policy.decide(text[b : b + 1], states.rows(np.array([b])))
        _assert_same(alone, Choices(*(getattr(together, f)[b : b + 1] for f in Choices.__annotations__)))


@pytest.mark.parametrize("seed", range(5))
def test_reordering_the_pool_reorders_the_choices(policy: NetworkPolicy, seed: int) -> None:
    rng = np.random.default_rng(seed)
    states, text = random_states(rng, MODELS, 40), some_text(policy, 40, seed)
    order = rng.permutation(len(MODELS))
    before, after = policy.decide(text, states), policy.decide(text, permuted(states, order))
    np.testing.assert_array_equal(after.call_BM, before.call_BM[:, order])
    selected = np.where(after.select_B >= 0, order[after.select_B], -1)
    np.testing.assert_array_equal(selected, before.select_B)


def unmeasured(prefix: str) -> tuple:
    return tuple(
        make_model(
            f"{prefix}-{i}",
            id=f"{prefix}/id-{i}",
            price=Price(Rates(Decimal(usd), Decimal(4 * usd)), date(2026, 1, 1), "tests"),
            capability=0.3 + 0.1 * i,
        )
        for i, usd in enumerate((1, 2, 5, 9))
    )


def test_the_names_of_unmeasured_models_change_nothing(policy: NetworkPolicy) -> None:
    here, there = unmeasured("zebra"), unmeasured("aardvark")
    states = random_states(np.random.default_rng(5), here, 50)
    text = some_text(policy, 50)
    one = policy.decide(text, states)
    assert one.call_BM.any()
    _assert_same(one, policy.decide(text, replace(states, models=there)))


def test_models_outside_the_episode_change_nothing_but_the_unit_of_cost(policy: NetworkPolicy) -> None:
    allowed = np.ones((1, len(MODELS)), bool)
    allowed[0, 2] = False
    text = some_text(policy, 1)
    prior = policy.prior(text, fresh())
    states, none = fresh(allowed_BM=allowed), np.zeros((1, len(MODELS)), bool)
    x = features(look(prior, states), none)
    unlike = replace(prior, chance_BM=np.where(allowed, prior.chance_BM, 0.97), cost_BM=prior.cost_BM * 1)
    y = features(look(unlike, states), none)
    masks = pool_masks(states, none)
    for one, other in zip(
        forward(policy.parameters, x, *masks), forward(policy.parameters, y, *masks), strict=True
    ):
        if one.shape == allowed.shape:
            one, other = one[allowed], other[allowed]
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("name", ["policy", "wild"])
def test_when_money_is_all_that_counts_the_cheap_one_of_two_is_asked_and_believed(name: str) -> None:
    policy = _cached(name)
    pair = (MODELS[-1], MODELS[0])
    states = fresh(pair, cost_weight=1e6)
    text = some_text(policy, 1)
    choices = policy.decide(text, states)
    assert choices.call_BM.tolist() == [[False, True]]
    answered = replace(
        states,
        turns_left_B=np.array([2]),
        allowed_BM=np.array([[True, False]]),
        responded_BM=np.array([[False, True]]),
        answer_BM=np.array([[-1, 0]]),
        cost_BM=np.array([[0.0, 1e-5]]),
    )
    ended = policy.decide(text, answered)
    assert not ended.call_BM.any()
    assert ended.select_B.tolist() == [1]


def test_a_state_in_which_nothing_may_be_done_is_no_crash(policy: NetworkPolicy) -> None:
    nothing = np.zeros((1, len(MODELS)), bool)
    for failed in (nothing, ~nothing):
        choices = policy.decide(some_text(policy, 1), fresh(allowed_BM=nothing, failed_BM=failed))
        assert not choices.call_BM.any()
        assert choices.select_B.tolist() == [-1]
        assert choices.confidence_B.tolist() == [0.0]


def test_an_empty_batch_is_an_empty_decision(policy: NetworkPolicy) -> None:
    none = random_states(np.random.default_rng(0), MODELS, 3).rows(np.zeros(0, np.int64))
    assert len(policy.decide(policy.encode([]), none).select_B) == 0


def test_without_corrections_it_asks_the_best_buy_by_the_profiles() -> None:
    """Weights at their start add nothing, so the first model is argmax of chance - lambda * relative cost."""
    policy = fitted_policy(OUTCOMES, noise=0.0)
    text = some_text(policy, 30)
    states = fresh(batch=30, cost_weight=0.5, turns_left_B=np.ones(30, int))
    prior = policy.prior(text, states)
    value = prior.chance_BM - 0.5 * prior.cost_BM / prior.reference_cost
    np.testing.assert_array_equal(policy.decide(text, states).call_BM.argmax(1), value.argmax(1))


def test_a_dearer_price_makes_a_model_rarer(policy: NetworkPolicy) -> None:
    text = some_text(policy, 60)
    states = fresh(batch=60, cost_weight=2.0)
    asked = policy.decide(text, states).call_BM.mean(0)
    favourite = int(asked.argmax())
    price = Price(Rates(Decimal(5), Decimal(20)), date(2026, 1, 1), "tests")
    models = tuple(replace(m, price=price) if i == favourite else m for i, m in enumerate(MODELS))
    assert policy.pool_profile(models).reference_cost == policy.pool_profile(MODELS).reference_cost
    dearer = policy.decide(text, replace(states, models=models)).call_BM.mean(0)
    assert asked[favourite] > 0.3 > 0.1 > dearer[favourite]


@pytest.mark.parametrize(
    ("payoff", "chance", "penalty", "worth"),
    [
        (Payoff(), 0.5, 0.2, 0.3),
        (Payoff(), 0.1, 3.0, -2.9),
        (Payoff(1.0, 0.8), 0.5, 0.2, 0.4),
        (Payoff(1.0, 0.8), 0.5, 9.0, 0.1),
        (Payoff(2.0, 1.5), 1.0, 0.5, 1.5),
    ],
)
def test_what_a_choice_is_worth(payoff: Payoff, chance: float, penalty: float, worth: float) -> None:
    np.testing.assert_allclose(payoff(np.array([chance]), np.array([penalty])), [worth])


def test_serving_it_reports_its_name_and_version(policy: NetworkPolicy) -> None:
    served = ServedPolicy(policy)
    assert (served.name, served.version) == ("network", "test")


UNLIKE_TRAINING = ("", "zxqv wrtpk bnmlo", "日本の首都はどこにありますか", "Ποιος έγραψε την Οδύσσεια")


def test_gibberish_and_other_scripts_are_unfamiliar_and_training_prompts_are_not(
    policy: NetworkPolicy,
) -> None:
    states = random_states(np.random.default_rng(1), MODELS, len(UNLIKE_TRAINING))
    assert not policy.decide(policy.encode(UNLIKE_TRAINING), states).familiar_B.any()
    prompts = OUTCOMES.recording.prompts
    states = random_states(np.random.default_rng(1), MODELS, len(prompts))
    assert policy.decide(policy.encode(prompts), states).familiar_B.mean() > 0.98


def test_a_stored_policy_still_knows_its_training_prompts(policy: NetworkPolicy, tmp_path: Path) -> None:
    save_network(policy, tmp_path / "policy.npz", Provenance())
    encoder = load_network(tmp_path / "policy.npz").encoder
    assert encoder.familiar_B(encoder.encode(OUTCOMES.recording.prompts)).mean() > 0.98
    assert not encoder.familiar_B(encoder.encode(UNLIKE_TRAINING)).any()


@pytest.mark.parametrize("name", ["policy", "wild"])
def test_unfamiliar_queries_are_decided_as_the_typical_query(name: str) -> None:
    policy = _cached(name)
    count = 60
    states = random_states(np.random.default_rng(2), MODELS, count)
    mixed = some_text(policy, count)
    strange = np.arange(count) % 3 == 0
    mixed[strange] = policy.encode(UNLIKE_TRAINING[1:2])
    certain = replace(policy.encoder, familiar=-1.0)
    trusting = NetworkPolicy(certain, policy.profiles, policy.parameters, policy.payoff)
    stand_in = np.where(strange[:, None], policy.profiles.typical_D, mixed)
    choices = policy.decide(mixed, states)
    assert choices.call_BM.any()
    np.testing.assert_array_equal(choices.familiar_B[strange], False)
    # of the others, those that the policy holds for familiar are decided on their own features
    kept = strange | choices.familiar_B
    assert kept.sum() > 0.9 * count
    expected = trusting.decide(stand_in, states)
    assert expected.familiar_B.all()
    for field in ("call_BM", "select_B", "confidence_B"):
        np.testing.assert_array_equal(getattr(choices, field)[kept], getattr(expected, field)[kept])


def test_choices_without_a_flag_are_familiar() -> None:
    choices = Choices(np.zeros((3, 2), bool), np.full(3, -1), np.full(3, np.nan))
    assert choices.familiar_B.tolist() == [True] * 3
