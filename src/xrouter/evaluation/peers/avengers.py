"""Clustering after the published recipe of Avengers and Avengers-Pro (arXiv 2505.19797 and 2508.12631): embed, k-means,
rank the models in each cluster, and route by the ranks of the clusters nearest to the query.

The packages of its authors are not on PyPI; this is written from the papers' description, with the settings of the
LLMRouterBench study: 25 clusters, the 3 nearest, weights softmax(-9 * distance).
Axes: B queries, Q training queries, K clusters, N models, E embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import ConfigurationError
from ...policies.baselines import UNFITTED, ask_best, columns_of, list_price_BM, present_means
from ...policies.states import Choices, Floats, States
from ...tasks.outcomes import Outcomes
from .embedding import Embed

CLUSTERS = 25
NEAREST = 3
SHARPNESS = 9.0


@dataclass(frozen=True, eq=False)
class Avengers:
    """Each cluster's scores and costs are scaled to 0..1 over its models; a model is worth
    alpha * score + (1 - alpha) * (1 - cost), with alpha = 1 / (1 + lambda).
    """

    models: tuple[str, ...]
    embed: Embed
    centres_KE: Floats
    score_KN: Floats
    cost_KN: Floats
    name: str = "avengers"
    version: str = "1"

    def encode(self, queries: Sequence[str]) -> Floats:
        """Scaled scores, then scaled costs, of each model."""
        distance_BK = np.linalg.norm(unit(self.embed(queries))[:, None] - self.centres_KE, axis=2)
        nearest = np.argsort(distance_BK, axis=1, kind="stable")[:, :NEAREST]
        weight = np.exp(-SHARPNESS * np.take_along_axis(distance_BK, nearest, 1))
        weight /= weight.sum(1, keepdims=True)
        return np.concatenate(
            [np.einsum("bk,bkn->bn", weight, table[nearest]) for table in (self.score_KN, self.cost_KN)],
            axis=1,
        )

    def decide(self, text_BD: Floats, states: States) -> Choices:
        score_BN, cost_BN = np.split(text_BD, 2, axis=1)
        alpha_B1 = 1.0 / (1.0 + states.cost_weight_B[:, None])
        value_BN = alpha_B1 * score_BN + (1.0 - alpha_B1) * (1.0 - cost_BN)
        column_M = columns_of(self.models, states.models)
        value_BM = np.where(column_M >= 0, value_BN[:, column_M], UNFITTED - list_price_BM(states))
        return ask_best(value_BM, states)


def fit_avengers(train: Outcomes, embed: Embed, seed: int = 0) -> Avengers:
    """Raises ConfigurationError where scikit-learn is missing."""
    try:
        from sklearn.cluster import KMeans
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"avengers needs {error.name}: pip install 'xrouter[train]'") from error
    points_QE = unit(embed(train.recording.prompts))
    k_means = KMeans(min(CLUSTERS, len(points_QE)), n_init=10, random_state=seed).fit(points_QE)
    present, score, cost = train.recording.present_QM, train.score_QM, train.recording.cost_QM
    score_KN = np.tile(present_means(score, present), (len(k_means.cluster_centers_), 1))
    cost_KN = np.tile(present_means(cost, present), (len(score_KN), 1))
    for k in range(len(score_KN)):
        inside = k_means.labels_ == k
        known = present[inside].any(0)
        score_KN[k, known] = present_means(score[inside], present[inside])[known]
        cost_KN[k, known] = present_means(cost[inside], present[inside])[known]
    low, high = score_KN.min(1, keepdims=True), score_KN.max(1, keepdims=True)
    return Avengers(
        models=train.model_names,
        embed=embed,
        centres_KE=np.asarray(k_means.cluster_centers_, np.float64),
        score_KN=(score_KN - low) / np.maximum(high - low, 1e-12),
        cost_KN=cost_KN / np.maximum(cost_KN.max(1, keepdims=True), 1e-12),
    )


def unit(vectors_BE: Floats | np.ndarray) -> Floats:
    """Rows of unit length."""
    vectors = np.asarray(vectors_BE, np.float64)
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))
