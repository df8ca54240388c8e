"""Policies that look at the question alone: what models did on training questions that read like it.

Axes: B queries, N training queries, M models, V hash buckets, K clusters, D hashed dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .baselines import EstimatedBest, present_means
from .states import Bools, Floats, Ints
from .text import hashed_counts

NEIGHBOURS = 40
CLUSTERS = 32
DIMENSIONS = 512
_ITERATIONS = 25


@dataclass(frozen=True, eq=False)
class TfIdf:
    """Inverse document frequencies of hashed words and word pairs. buckets_V is sorted."""

    buckets_V: Ints
    idf_V: Floats

    @classmethod
    def fit(cls, prompts: Sequence[str]) -> TfIdf:
        found = [np.fromiter(hashed_counts(prompt), np.int64) for prompt in prompts]
        buckets, frequency = np.unique(np.concatenate(found), return_counts=True)
        return cls(buckets, 1.0 + np.log((1.0 + len(prompts)) / (1.0 + frequency)))

    def vector(self, query: str) -> tuple[Ints, Floats]:
        """Positions in buckets_V and weights of a vector of unit length; words never seen are left out."""
        counts = hashed_counts(query)
        buckets = np.fromiter(counts.keys(), np.int64, len(counts))
        tf = 1.0 + np.log(np.fromiter(counts.values(), np.float64, len(counts)))
        at = np.minimum(np.searchsorted(self.buckets_V, buckets), len(self.buckets_V) - 1)
        known = self.buckets_V[at] == buckets
        at, weight = at[known], tf[known] * self.idf_V[at[known]]
        return at, weight / max(float(np.linalg.norm(weight)), 1e-12)


@dataclass(frozen=True, eq=False)
class Index:
    """Postings: for bucket v, the training queries that hold it and its weight there, in start_V[v]:start_V[v + 1]."""

    tf_idf: TfIdf
    row_P: Ints
    weight_P: Floats
    start_V: Ints
    size: int

    @classmethod
    def fit(cls, prompts: Sequence[str]) -> Index:
        tf_idf = TfIdf.fit(prompts)
        vectors = [tf_idf.vector(prompt) for prompt in prompts]
        bucket = np.concatenate([at for at, _ in vectors])
        row = np.repeat(np.arange(len(prompts)), [len(at) for at, _ in vectors])
        order = np.argsort(bucket, kind="stable")
        start = np.searchsorted(bucket[order], np.arange(len(tf_idf.buckets_V) + 1))
        weight = np.concatenate([weight for _, weight in vectors])
        return cls(tf_idf, row[order], weight[order], start, len(prompts))

    def similarity_N(self, query: str) -> Floats:
        """Cosine similarity to every training query."""
        out = np.zeros(self.size)
        for at, weight in zip(*self.tf_idf.vector(query), strict=True):
            posting = slice(self.start_V[at], self.start_V[at + 1])
            out[self.row_P[posting]] += weight * self.weight_P[posting]
        return out


@dataclass(frozen=True, eq=False)
class KNearest(EstimatedBest):
    """Mean score and cost of the k nearest training queries by TF-IDF cosine.

    A model none of the neighbours asked counts with its mean over all training queries.
    """

    index: Index
    score_NM: Floats
    cost_NM: Floats
    present_NM: Bools
    k: int = NEIGHBOURS
    name: str = "knn"

    @classmethod
    def fit(
        cls,
        models: tuple[str, ...],
        prompts: Sequence[str],
        score_NM: Floats,
        cost_NM: Floats,
        present_NM: Bools,
        reference_cost: float,
        k: int = NEIGHBOURS,
    ) -> KNearest:
        """score_NM may be NaN where not present; cost_NM and reference_cost in US dollars."""
        score = np.where(present_NM, score_NM, 0.0)
        return cls(models, reference_cost, Index.fit(prompts), score, cost_NM, present_NM, k)

    def estimates(self, queries: Sequence[str]) -> tuple[Floats, Floats]:
        mean_score_M = present_means(self.score_NM, self.present_NM)
        mean_cost_M = present_means(self.cost_NM, self.present_NM)
        score_BM = np.empty((len(queries), len(self.models)))
        cost_BM = np.empty_like(score_BM)
        for row, query in enumerate(queries):
            near = np.argsort(-self.index.similarity_N(query), kind="stable")[: self.k]
            present = self.present_NM[near]
            known = present.any(0)
            score_BM[row] = np.where(known, present_means(self.score_NM[near], present), mean_score_M)
            cost_BM[row] = np.where(known, present_means(self.cost_NM[near], present), mean_cost_M)
        return score_BM, cost_BM


@dataclass(frozen=True, eq=False)
class ClusterBest(EstimatedBest):
    """Training queries in clusters; the best model of the nearest cluster."""

    tf_idf: TfIdf
    centres_KD: Floats
    score_KM: Floats
    cost_KM: Floats
    name: str = "cluster"

    @classmethod
    def fit(
        cls,
        models: tuple[str, ...],
        prompts: Sequence[str],
        score_NM: Floats,
        cost_NM: Floats,
        present_NM: Bools,
        reference_cost: float,
        clusters: int = CLUSTERS,
        seed: int = 0,
    ) -> ClusterBest:
        """score_NM may be NaN where not present; cost_NM and reference_cost in US dollars."""
        tf_idf = TfIdf.fit(prompts)
        dense_ND = hashed_vectors(tf_idf, prompts)
        centres = spherical_k_means(dense_ND, min(clusters, len(prompts)), seed)
        of_N = (dense_ND @ centres.T).argmax(1)
        score_KM = np.tile(present_means(score_NM, present_NM), (len(centres), 1))
        cost_KM = np.tile(present_means(cost_NM, present_NM), (len(centres), 1))
        for k in range(len(centres)):
            present = present_NM[of_N == k]
            known = present.any(0)
            score_KM[k, known] = present_means(score_NM[of_N == k], present)[known]
            cost_KM[k, known] = present_means(cost_NM[of_N == k], present)[known]
        return cls(models, reference_cost, tf_idf, centres, score_KM, cost_KM)

    def estimates(self, queries: Sequence[str]) -> tuple[Floats, Floats]:
        of_B = (hashed_vectors(self.tf_idf, queries) @ self.centres_KD.T).argmax(1)
        return self.score_KM[of_B], self.cost_KM[of_B]


def hashed_vectors(tf_idf: TfIdf, queries: Sequence[str], dimensions: int = DIMENSIONS) -> Floats:
    """TF-IDF folded into few dimensions with hashed signs, so that collisions cancel on average
    (Weinberger et al. 2009); unit length.
    """
    out = np.zeros((len(queries), dimensions))
    for row, query in enumerate(queries):
        at, weight = tf_idf.vector(query)
        buckets = tf_idf.buckets_V[at]
        sign = np.where((buckets // dimensions) % 2, 1.0, -1.0)
        np.add.at(out[row], buckets % dimensions, sign * weight)
    length = np.linalg.norm(out, axis=1, keepdims=True)
    return np.asarray(out / np.maximum(length, 1e-12))


def spherical_k_means(points_ND: Floats, clusters: int, seed: int) -> NDArray[np.float64]:
    """Unit centres [K, D] by Lloyd's iterations on cosine similarity from seeded, well-spread starts (k-means++)."""
    rng = np.random.default_rng(seed)
    centres = [points_ND[rng.integers(len(points_ND))]]
    nearest_N = points_ND @ centres[0]
    for _ in range(clusters - 1):
        distance_N = np.maximum(1.0 - nearest_N, 0.0) + 1e-12
        centres.append(points_ND[rng.choice(len(points_ND), p=distance_N / distance_N.sum())])
        nearest_N = np.maximum(nearest_N, points_ND @ centres[-1])
    centres_KD = np.array(centres)
    for _ in range(_ITERATIONS):
        of_N = (points_ND @ centres_KD.T).argmax(1)
        sums_KD = np.zeros_like(centres_KD)
        np.add.at(sums_KD, of_N, points_ND)
        length = np.linalg.norm(sums_KD, axis=1, keepdims=True)
        moved = np.where(length > 0, sums_KD / np.maximum(length, 1e-12), centres_KD)
        if np.allclose(moved, centres_KD, atol=1e-9):
            break
        centres_KD = moved
    return centres_KD
