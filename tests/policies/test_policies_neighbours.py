from __future__ import annotations

import numpy as np
import pytest
from outcomes_kit import kit_states

from xrouter.policies.neighbours import ClusterBest, Index, KNearest, TfIdf

PROMPTS = [f"add the numbers {i} and {i + 1}" for i in range(10)] + [
    f"a verse about river {i}" for i in range(10)
]
MODELS = ("adder", "poet")
SCORE = np.array([[1.0, 0.0]] * 10 + [[0.0, 1.0]] * 10)
COST = np.array([[1.0, 2.0]] * 20)
PRESENT = np.ones_like(SCORE, bool)
PRICES = {"poet": 1.0, "adder": 1.0}


def fitted(kind):
    if kind is KNearest:
        return KNearest.fit(MODELS, PROMPTS, SCORE, COST, PRESENT, 1.0, k=4)
    return ClusterBest.fit(MODELS, PROMPTS, SCORE, COST, PRESENT, 1.0, clusters=2)


@pytest.mark.parametrize("kind", [KNearest, ClusterBest])
def test_the_model_of_the_topic_is_asked_whatever_the_order_of_the_pool(kind):
    policy = fitted(kind)
    for query, expected in (("add the numbers 99 and 5", "adder"), ("one verse about the river Po", "poet")):
        states = kit_states(PRICES)
        called = policy.decide(policy.encode([query]), states).call_BM[0]
        assert [m.name for m, c in zip(states.models, called, strict=True) if c] == [expected]


@pytest.mark.parametrize("kind", [KNearest, ClusterBest])
def test_a_high_cost_weight_buys_the_cheaper_one(kind):
    policy = fitted(kind)
    choices = policy.decide(policy.encode(["a verse about river 3"]), kit_states(PRICES, cost_weight=2.0))
    assert choices.call_BM.tolist() == [[False, True]]


@pytest.mark.parametrize("kind", [KNearest, ClusterBest])
def test_a_text_of_unknown_words_still_gets_an_estimate(kind):
    score, cost = fitted(kind).estimates(["", "zzz"])
    assert np.isfinite(score).all()
    assert (cost > 0).all()


def test_similarity_is_the_cosine_of_tf_idf_vectors():
    index = Index.fit(PROMPTS)
    at, weight = TfIdf.fit(PROMPTS).vector(PROMPTS[3])
    assert np.linalg.norm(weight) == pytest.approx(1.0)
    assert len(at) == len(set(at.tolist()))
    similarity = index.similarity_N(PROMPTS[3])
    assert similarity.argmax() == 3
    assert similarity[3] == pytest.approx(1.0)
    assert similarity[15] == pytest.approx(0.0)


def test_neighbours_are_the_nearest_k_and_their_mean_skips_what_was_not_asked():
    present = PRESENT.copy()
    present[:10, 1] = False
    score = np.where(present, SCORE, np.nan)
    policy = KNearest.fit(MODELS, PROMPTS, score, COST, present, 1.0, k=4)
    estimate, _ = policy.estimates([PROMPTS[0]])
    assert estimate[0, 0] == 1.0
    assert estimate[0, 1] == 1.0  # no neighbour asked it: its mean over all that did


def test_clusters_are_the_same_for_a_seed():
    a, b = fitted(ClusterBest), fitted(ClusterBest)
    assert (a.centres_KD == b.centres_KD).all()
    assert a.score_KM.tolist() in ([[1, 0], [0, 1]], [[0, 1], [1, 0]])
