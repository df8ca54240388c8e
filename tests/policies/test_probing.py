"""A model joins by probes: the Bayesian row, and the profiles with the model among them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_model
from learner_kit import fitted_policy
from synthetic import synthetic_outcomes

from xrouter.catalog.model import Model
from xrouter.errors import DataError
from xrouter.policies.network import NetworkPolicy
from xrouter.policies.probing import (
    SCORE_NOISE,
    SKILL_LEVEL,
    Probes,
    add_model,
    add_models,
    posterior_row,
)
from xrouter.policies.profiles import Profiles
from xrouter.tasks.outcomes import Outcomes
from xrouter.tasks.probes import draw_probes

OUTCOMES = synthetic_outcomes(seed=2, queries=400, models=5)


@pytest.fixture(scope="module")
def policy() -> NetworkPolicy:
    return fitted_policy(OUTCOMES)


def probes_of(
    policy: NetworkPolicy, model: str, count: int, seed: int = 0, data: Outcomes = OUTCOMES
) -> Probes:
    (drawn,) = draw_probes(data, [model], policy.encoder, count, seed)
    return drawn.probes


def some_probes(count: int, width: int, seed: int = 0) -> Probes:
    rng = np.random.default_rng(seed)
    text = rng.standard_normal((count, width)) * 0.3
    text[:, 0] = 1.0
    return Probes(
        text_PD=text,
        score_P=rng.integers(0, 2, count).astype(float),
        tokens_P=rng.uniform(50, 500, count),
        prompt_tokens_P=np.full(count, 30.0),
        estimate_P=np.full(count, 20.0),
    )


def chances(profiles: Profiles, name: str, text: np.ndarray) -> np.ndarray:
    return text @ profiles.skill_ND[profiles.names.index(name)]


@pytest.mark.parametrize("probes", [1, 3, 40])
def test_the_row_is_the_posterior_mean_of_bayesian_linear_regression(probes: int) -> None:
    """In function space (Rasmussen and Williams, 2006, equation 2.23): a Gaussian process whose covariance is that of
    the known rows, plus a level."""
    rng = np.random.default_rng(probes)
    rows, level, noise, level_variance = rng.standard_normal((4, 6)), 0.3, 0.2, 0.05
    text, new = rng.standard_normal((2, max(probes, 9), 6))
    text = text[:probes]
    text[:, 0] = new[:, 0] = 1.0
    target = rng.standard_normal(probes)
    covariance = np.cov(rows.T, bias=True)

    def kernel(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return one @ covariance @ other.T + level_variance

    def mean(x: np.ndarray) -> np.ndarray:
        return x @ rows.mean(0) + level

    inverse = np.linalg.inv(kernel(text, text) + noise * np.eye(probes))
    expected = mean(new) + kernel(new, text) @ inverse @ (target - mean(text))
    row = posterior_row(rows, text, target, level, noise, level_variance)
    np.testing.assert_allclose(new @ row, expected, atol=1e-10)


def test_without_noise_to_speak_of_the_row_goes_through_the_probes() -> None:
    probes = some_probes(4, 8)
    rows = np.random.default_rng(1).standard_normal((12, 8))
    row = posterior_row(rows, probes.text_PD, probes.score_P, 0.0, 1e-9, 0.1)
    np.testing.assert_allclose(probes.text_PD @ row, probes.score_P, atol=1e-5)


def test_probes_that_say_nothing_leave_the_expected_row() -> None:
    probes = some_probes(4, 8)
    rows = np.random.default_rng(1).standard_normal((12, 8))
    row = posterior_row(rows, probes.text_PD, probes.score_P, 0.2, 1e12, 0.1)
    np.testing.assert_allclose(row, rows.mean(0) + 0.2 * np.eye(8)[0], atol=1e-9)


@pytest.mark.parametrize("share", [(1.0, 0.0, 0.0), (0.3, 0.7, 0.0), (1.4, -0.4, 0.0)])
def test_with_many_probes_it_approaches_the_models_own_row(share: tuple[float, ...]) -> None:
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((3, 6)) * 0.2
    own = np.array(share) @ rows + 0.1 * np.eye(6)[0]
    error = []
    for count in (10, 100, 20_000):
        text = rng.standard_normal((count, 6))
        text[:, 0] = 1.0
        target = text @ own + rng.normal(0, np.sqrt(SCORE_NOISE), count)
        row = posterior_row(rows, text, target, 0.0, SCORE_NOISE, SKILL_LEVEL)
        error.append(float(np.abs(row - own).max()))
    assert error[2] < 0.02
    assert error[2] < error[0]


def test_a_model_like_a_known_one_is_recognised_from_50_probes(policy: NetworkPolicy) -> None:
    """Its twin's profile is the truth. The guess from its price alone is the rival; means over models and draws."""
    text = policy.encode(OUTCOMES.recording.prompts)
    guessed, probed, more = [], [], []
    for name in OUTCOMES.model_names:
        model = OUTCOMES.models[OUTCOMES.model_names.index(name)]
        twin = replace(model, name="twin", id="twin")
        truth = chances(policy.profiles, name, text)
        pool = policy.profiles.of_pool([twin])
        guessed.append(np.abs(text @ pool.skill_MD[0] - truth).mean())
        for seed in range(5):
            for errors, count in ((probed, 50), (more, 320)):
                joined = add_model(policy.profiles, twin, probes_of(policy, name, count, seed))
                errors.append(np.abs(chances(joined, "twin", text) - truth).mean())
    assert np.mean(probed) < 0.75 * np.mean(guessed)
    assert np.mean(more) < np.mean(probed)


def test_lengths_and_prompts_are_measured_too(policy: NetworkPolicy) -> None:
    record = OUTCOMES.recording
    long = replace(
        OUTCOMES,
        recording=replace(
            record, tokens_QM=record.tokens_QM * 6, prompt_tokens_QM=record.prompt_tokens_QM * 2
        ),
    )
    model = replace(OUTCOMES.models[1], name="long", id="long")
    before = policy.profiles.of_pool([model])
    profiles = add_model(policy.profiles, model, probes_of(policy, "model-1", 50, data=long))
    pool = profiles.of_pool([model])
    text = policy.encode(record.prompts)
    recorded = long.recording.tokens_QM[:, 1].mean()
    assert pool.known_M.all()
    assert pool.tokens_BM(text).mean() == pytest.approx(recorded, rel=0.2)
    assert before.tokens_BM(text).mean() < recorded / 3
    assert pool.prompt_M2[0, 1] == pytest.approx(2 * 1.0, rel=0.3)


def test_tokens_over_the_probes_add_up_to_what_was_recorded(policy: NetworkPolicy) -> None:
    probes = probes_of(policy, "model-3", 30)
    model = make_model("new")
    pool = add_model(policy.profiles, model, probes).of_pool([model])
    assert pool.tokens_BM(probes.text_PD).sum() == pytest.approx(probes.tokens_P.sum(), rel=1e-4)


def test_prompts_nobody_counted_are_taken_as_estimated(policy: NetworkPolicy) -> None:
    probes = replace(probes_of(policy, "model-3", 10), prompt_tokens_P=np.zeros(10))
    added = add_model(policy.profiles, make_model("new"), probes)
    assert added.prompt_N2[-1].tolist() == [0.0, 1.0]


def test_the_order_of_probes_changes_nothing(policy: NetworkPolicy) -> None:
    probes, order = probes_of(policy, "model-2", 40), np.random.default_rng(0).permutation(40)
    shuffled = Probes(**{name: getattr(probes, name)[order] for name in Probes.__annotations__})
    one, other = (add_model(policy.profiles, make_model("new"), p) for p in (probes, shuffled))
    for name in ("skill_ND", "tokens_ND", "tokens_scale_N", "tokens_spread_N", "prompt_N2", "loadings_NE"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-4, atol=1e-5)


def test_the_other_profiles_stay_as_they_are(policy: NetworkPolicy) -> None:
    added = add_model(policy.profiles, make_model("new"), probes_of(policy, "model-2", 20))
    assert added.names == (*policy.profiles.names, "new")
    for name in ("skill_ND", "tokens_ND", "tokens_scale_N", "tokens_spread_N", "prompt_N2", "loadings_NE"):
        assert getattr(added, name).dtype == np.float32
        np.testing.assert_array_equal(getattr(added, name)[:-1], getattr(policy.profiles, name))
    np.testing.assert_array_equal(added.typical_D, policy.profiles.typical_D)


def test_a_known_model_is_measured_anew(policy: NetworkPolicy) -> None:
    """What was known of it does not count: the result is that of a policy that never knew it."""
    model, probes = OUTCOMES.models[2], probes_of(policy, "model-4", 50)
    added = add_model(policy.profiles, model, probes)
    assert sorted(added.names) == sorted(policy.profiles.names)
    assert added.names[-1] == "model-2"
    again = add_model(added, model, probes)
    np.testing.assert_array_equal(again.skill_ND, added.skill_ND)


def test_several_models_join_in_any_order(policy: NetworkPolicy) -> None:
    pairs: list[tuple[Model, Probes]] = [
        (make_model(f"new-{i}"), probes_of(policy, f"model-{i}", 30, seed=i)) for i in range(3)
    ]
    one, other = add_models(policy.profiles, pairs), add_models(policy.profiles, pairs[::-1])
    for i in range(3):
        a, b = one.names.index(f"new-{i}"), other.names.index(f"new-{i}")
        np.testing.assert_array_equal(one.skill_ND[a], other.skill_ND[b])
        np.testing.assert_array_equal(one.tokens_scale_N[a], other.tokens_scale_N[b])
        alone = add_model(policy.profiles, *pairs[i])
        np.testing.assert_array_equal(one.skill_ND[a], alone.skill_ND[-1])


def test_no_probe_is_an_error_that_names_the_model(policy: NetworkPolicy) -> None:
    with pytest.raises(DataError, match="'new' has no probe"):
        add_model(policy.profiles, make_model("new"), some_probes(0, policy.encoder.width))


def test_a_policy_that_knows_nobody_else_is_refused(policy: NetworkPolicy) -> None:
    everyone = [(model, some_probes(3, policy.encoder.width)) for model in OUTCOMES.models]
    with pytest.raises(DataError, match="no other model"):
        add_models(policy.profiles, everyone)
