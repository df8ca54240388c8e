"""Evolution strategies on the network's output layers: the gradient-free yardstick of the policy gradients.

Antithetic Gaussian perturbations with rank-shaped fitness (Salimans et al., 2017); every perturbation of a step plays
the same episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ..policies.states import Floats

Weights = Mapping[str, Floats]
HEAD = ("w3", "b3", "w4", "b4", "w5", "b5")


def evolve(
    weights: Weights,
    fitness: Callable[[Weights], float],
    rng: np.random.Generator,
    *,
    pairs: int,
    noise: float,
    rate: float,
) -> dict[str, Floats]:
    """The head's weights after one step uphill: `rate` is how far, in units of `noise`, along the estimated gradient."""
    head = {name: np.asarray(weights[name], np.float64) for name in HEAD}
    directions = [
        {name: rng.standard_normal(value.shape) for name, value in head.items()} for _ in range(pairs)
    ]
    scores = np.array(
        [
            [
                fitness({**weights, **{name: head[name] + sign * noise * d[name] for name in HEAD}})
                for sign in (1.0, -1.0)
            ]
            for d in directions
        ]
    )
    ranks = scores.reshape(-1).argsort().argsort().reshape(scores.shape) / (scores.size - 1) - 0.5
    gain = ranks[:, 0] - ranks[:, 1]
    return {
        name: head[name] + rate * noise * sum(g * d[name] for g, d in zip(gain, directions, strict=True))
        for name in HEAD
    }
