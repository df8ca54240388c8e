from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrouter.policies import inference
from xrouter.policies.inference import infer


def one(
    prior: list[float], answers: list[int], *, wrong: float = 0.2, right: float = 1.0, loadings=(1.4, 0.5)
):
    """Inference for one episode; prior as probabilities. -> (chance_M, after_M)."""
    p = np.array([prior])
    result = infer(
        np.log(p / (1 - p)),
        np.array([answers]),
        np.array([wrong]),
        np.array([right]),
        np.broadcast_to(loadings, (len(prior), 2)),
    )
    return result.chance_BM[0], result.after_BM[0]


def seating(rng: np.random.Generator, members: np.ndarray, alpha: float, first: int) -> dict[int, int]:
    """A Chinese restaurant process over these models: model -> class, numbered from `first`."""
    seats: dict[int, int] = {}
    for i, model in enumerate(members):
        new = rng.random() < alpha / (alpha + i)
        seats[int(model)] = first + len(set(seats.values())) if new else seats[int(rng.choice(members[:i]))]
    return seats


def partition(classes: list[int]) -> tuple[int, ...]:
    """Classes renumbered by first appearance, so that equal partitions are equal tuples."""
    number: dict[int, int] = {}
    return tuple(number.setdefault(c, len(number)) for c in classes)


def simulated(prior: list[float], wrong: float, right: float, loadings: np.ndarray, draws: int):
    """The generative model itself: (right_DM, class_DM)."""
    rng = np.random.default_rng(0)
    logit = np.log(np.array(prior) / (1 - np.array(prior)))
    is_right = np.empty((draws, len(prior)), bool)
    classes = np.empty((draws, len(prior)), int)
    for d in range(draws):
        ease = rng.standard_normal(2)
        steep = np.sqrt(1 + 0.346 * (loadings**2).sum(1))
        p = 1 / (1 + np.exp(-(steep * logit + loadings @ ease)))
        is_right[d] = rng.random(len(prior)) < p
        seats = seating(rng, np.flatnonzero(is_right[d]), 1 / right - 1, 0)
        seats |= seating(rng, np.flatnonzero(~is_right[d]), 1 / wrong - 1, 100)
        classes[d] = [seats[m] for m in range(len(prior))]
    return is_right, classes


@pytest.mark.parametrize("right", [0.98, 0.5])
def test_the_chances_are_the_frequencies_of_the_model_they_come_from(right: float) -> None:
    prior, wrong = [0.6, 0.5, 0.75, 0.7], 0.3
    loadings = np.array([[1.2, 0.1], [1.0, 0.6], [0.9, -0.5], [1.2, 0.0]])
    is_right, classes = simulated(prior, wrong, right, loadings, 30_000)
    asked = 3
    patterns = np.array([partition(list(row[:asked])) for row in classes])
    for pattern in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 2)):
        here = (patterns == pattern).all(1)
        assert here.sum() > 600
        chance, after = one(prior, [*pattern, -1], wrong=wrong, right=right, loadings=loadings)
        error = 3.5 * np.sqrt(0.25 / here.sum()) + 0.004
        np.testing.assert_allclose(chance, is_right[here].mean(0), atol=error)

        full = np.array([partition(list(row)) for row in classes[here]])
        best = 0.0
        for outcome in np.unique(full, axis=0):
            then = (full == outcome).all(1)
            best += then.mean() * is_right[here][then].mean(0).max()
        assert after[3] == pytest.approx(best, abs=error)


def test_before_any_answer_the_prior_stands() -> None:
    chance, after = one([0.3, 0.8], [-1, -1])
    np.testing.assert_allclose(chance, [0.3, 0.8])
    np.testing.assert_allclose(after, [0.3, 0.8])


def test_one_answer_by_itself_says_nothing() -> None:
    chance, _ = one([0.3, 0.8, 0.6], [0, -1, -1])
    np.testing.assert_allclose(chance, [0.3, 0.8, 0.6], atol=0.01)


def test_agreement_raises_and_disagreement_lowers() -> None:
    alone, _ = one([0.6, 0.6], [0, -1])
    agree, _ = one([0.6, 0.6], [0, 0])
    differ, _ = one([0.6, 0.6], [0, 1])
    assert agree[0] == pytest.approx(agree[1])
    assert differ[0] < alone[0] - 0.1 < alone[0] + 0.1 < agree[0]


def test_agreement_says_less_where_wrong_answers_are_alike() -> None:
    scattered, _ = one([0.5, 0.5], [0, 0], wrong=0.05)
    alike, _ = one([0.5, 0.5], [0, 0], wrong=0.9)
    assert scattered[0] > 0.9
    assert alike[0] < 0.65


def test_where_right_answers_differ_disagreement_says_little() -> None:
    strict, _ = one([0.7, 0.7], [0, 1], right=1.0)
    loose, _ = one([0.7, 0.7], [0, 1], right=0.1)
    assert strict[0] < 0.55 < 0.65 < loose[0]


def test_models_not_asked_learn_from_those_that_were() -> None:
    agree, _ = one([0.5, 0.5, 0.5, 0.7], [0, 0, 0, -1])
    scatter, _ = one([0.5, 0.5, 0.5, 0.7], [0, 1, 2, -1])
    assert scatter[3] < 0.7 < agree[3]
    without, _ = one([0.5, 0.5, 0.5, 0.7], [0, 1, 2, -1], loadings=(0.0, 0.0))
    assert without[3] == pytest.approx(0.7)


def test_models_that_err_together_confirm_one_another_less() -> None:
    alike, _ = one([0.6, 0.6], [0, 0], loadings=[[2.0, 0.0], [2.0, 0.0]])
    apart, _ = one([0.6, 0.6], [0, 0], loadings=[[2.0, 0.0], [0.0, 2.0]])
    assert alike[0] < apart[0]


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_chances_stay_probabilities_and_asking_never_hurts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    B, M = 6, int(rng.integers(1, 12))
    answers = np.where(rng.random((B, M)) < rng.random(), rng.integers(0, M, (B, M)), -1)
    result = infer(
        rng.normal(0, 2.5, (B, M)), answers, rng.random(B), rng.random(B), rng.normal(0, 1.5, (M, 2))
    )
    for values in (result.chance_BM, result.after_BM):
        assert np.isfinite(values).all()
        assert ((values >= 0) & (values <= 1)).all()
    at_hand = np.where(answers >= 0, result.chance_BM, 0.0).max(1, keepdims=True)
    assert (np.where(answers < 0, result.after_BM, 1.0) >= at_hand - 1e-9).all()
    equal = (answers[:, :, None] == answers[:, None, :]) & (answers >= 0)[:, :, None]
    chance = result.chance_BM
    assert np.abs(np.where(equal, chance[:, :, None] - chance[:, None, :], 0)).max(initial=0) < 1e-9


def test_rows_do_not_touch_one_another() -> None:
    rng = np.random.default_rng(2)
    prior = rng.normal(0, 1, (40, 9))
    answers = np.where(rng.random((40, 9)) < 0.6, rng.integers(0, 9, (40, 9)), -1)
    rates = rng.uniform(0.05, 0.9, (2, 40))
    loadings = rng.normal(1, 0.5, (9, 2))
    together = infer(prior, answers, *rates, loadings)
    for b in range(40):
        row = np.array([b])
        alone = infer(prior[row], answers[row], rates[0][row], rates[1][row], loadings)
        np.testing.assert_allclose(alone.chance_BM[0], together.chance_BM[b], rtol=1e-9)
        np.testing.assert_allclose(alone.after_BM[0], together.after_BM[b], rtol=1e-9)


def test_more_classes_than_are_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best supported classes matter; the tail changes little."""
    prior, answers = [0.7, 0.6, 0.55, 0.5, 0.15, 0.1, 0.1], [0, 0, 1, 1, 2, 3, 4]
    exact, _ = one(prior, answers)
    monkeypatch.setattr(inference, "MAX_CLASSES", 2)
    rough, _ = one(prior, answers)
    np.testing.assert_allclose(rough[:4], exact[:4], atol=0.05)
    assert (rough[4:] == 0).all()
