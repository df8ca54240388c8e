from __future__ import annotations

import numpy as np

from xrouter.policies.network import initial_parameters
from xrouter.training.evolution import HEAD, Weights, evolve


def test_evolution_climbs_a_hill_and_leaves_the_other_layers() -> None:
    weights: Weights = {name: value.astype(float) for name, value in initial_parameters(0, 8).items()}
    rng = np.random.default_rng(0)
    target = {name: 0.1 * rng.standard_normal(weights[name].shape) for name in HEAD}

    def fitness(candidate: Weights) -> float:
        return -float(sum(((candidate[name] - target[name]) ** 2).sum() for name in HEAD))

    now = dict(weights)
    for _ in range(60):
        evolved = evolve(now, fitness, rng, pairs=8, noise=0.05, rate=0.3)
        assert set(evolved) == set(HEAD)
        now |= evolved
    assert fitness(now) > 0.6 * fitness(weights)
