"""Fits the text encoder on training prompts: TF-IDF, truncated SVD, k-means landmarks. No labels are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD

from ..policies.text import TextEncoder, hashed_counts, shape

SHARPNESS = 6.0
UNFAMILIAR_SHARE = 0.002
"""Of the training prompts that lie further from every landmark than a query that still counts as familiar."""


def fit_encoder(
    prompts: Sequence[str],
    *,
    dimensions: int = 128,
    landmarks: int = 256,
    vocabulary: int = 24_000,
    min_documents: int = 3,
    seed: int = 0,
) -> TextEncoder:
    """Keeps the `vocabulary` most frequent buckets among those seen in at least `min_documents` prompts."""
    counts = [hashed_counts(prompt) for prompt in prompts]
    document_frequency = Counter(bucket for count in counts for bucket in count)
    frequent = [item for item in document_frequency.items() if item[1] >= min_documents]
    ranked = sorted(frequent or document_frequency.items(), key=lambda item: (-item[1], item[0]))
    kept = sorted(bucket for bucket, _ in ranked[:vocabulary])
    position = {bucket: i for i, bucket in enumerate(kept)}
    idf_V = np.array(
        [1.0 + np.log((1 + len(prompts)) / (1 + document_frequency[b])) for b in kept], np.float32
    )

    rows, columns, values = [], [], []
    for row, count in enumerate(counts):
        for bucket, n in count.items():
            if bucket in position:
                rows.append(row)
                columns.append(position[bucket])
                values.append((1.0 + np.log(n)) * idf_V[position[bucket]])
    matrix = csr_matrix((values, (rows, columns)), shape=(len(prompts), len(kept)), dtype=np.float32)
    norms = np.sqrt(matrix.multiply(matrix).sum(1))
    matrix = csr_matrix(matrix.multiply(1.0 / np.maximum(norms, 1e-9)))

    size = min(dimensions, len(kept) - 1, len(prompts) - 1)
    svd = TruncatedSVD(max(size, 1), random_state=seed).fit(matrix)
    projection_VD = np.ascontiguousarray(svd.components_.T, np.float32)
    embedded = matrix @ projection_VD
    embedded /= np.maximum(np.linalg.norm(embedded, axis=1, keepdims=True), 1e-9)
    distinct = len(np.unique(embedded.round(5), axis=0))
    means = KMeans(min(landmarks, distinct), n_init=1, random_state=seed).fit(embedded).cluster_centers_
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
    landmarks_LD = means.astype(np.float32)
    nearest = np.exp(SHARPNESS * ((embedded @ landmarks_LD.T).max(1) - 1.0))
    return TextEncoder(
        buckets_V=np.array(kept, np.int64),
        idf_V=idf_V,
        projection_VD=projection_VD,
        landmarks_LD=landmarks_LD,
        sharpness=SHARPNESS,
        shape_2S=shape_statistics(prompts),
        familiar=float(np.quantile(nearest, UNFAMILIAR_SHARE)),
    )


def shape_statistics(prompts: Sequence[str]) -> NDArray[np.float32]:
    """Mean and standard deviation of each count of `policies.text.SHAPE`."""
    counts = np.array([shape(prompt) for prompt in prompts])
    return np.array([counts.mean(0), np.maximum(counts.std(0), 1e-3)], np.float32)
