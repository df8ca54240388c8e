"""Probe questions: a model joins a trained policy by a few dozen graded answers out of recorded outcomes.

Axes: P probes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from ..catalog.model import Model
from ..episodes.cost import estimate_query_tokens
from ..errors import DataError
from ..policies.network import NetworkPolicy
from ..policies.probing import Probes, add_models
from ..policies.profiles import Profiles
from ..policies.text import TextEncoder
from .outcomes import Outcomes

COST_DIGITS = 12
"""Decimal places of a recorded cost in USD: beyond them stands the rounding of the file's floats."""


@dataclass(frozen=True, eq=False)
class Probed:
    """The probes drawn of one model. cost_usd: what their calls cost."""

    model: Model
    probes: Probes
    cost_usd: Decimal
    datasets: tuple[str, ...]

    @property
    def score(self) -> float:
        return float(self.probes.score_P.mean())


@dataclass(frozen=True, slots=True)
class Expectation:
    """Of a model on a typical query of the training: probability of a right answer, output tokens, and whether
    they were measured or guessed from the model's descriptors."""

    score: float
    output_tokens: float
    measured: bool


def draw_probes(
    outcomes: Outcomes, names: Sequence[str], encoder: TextEncoder, count: int, seed: int
) -> list[Probed]:
    """At most `count` graded answers of each model, drawn from the train split; models answer the same queries where
    they can. Raises DataError for a model without any, or a set without a train split."""
    train = outcomes.pool(names).split("train")
    order = np.random.default_rng(seed).permutation(len(train))
    return [_drawn(train, m, order, encoder, count) for m in range(len(names))]


def _drawn(train: Outcomes, m: int, order: np.ndarray, encoder: TextEncoder, count: int) -> Probed:
    record = train.recording
    graded_Q = record.present_QM[:, m] & ~np.isnan(train.score_QM[:, m])
    index = order[graded_Q[order]][:count]
    if not len(index):
        raise DataError(
            f"{train.name}: model {train.model_names[m]!r} has no graded answer in the train split"
        )
    prompts = [record.prompts[q] for q in index]
    probes = Probes(
        text_PD=encoder.encode(prompts).astype(np.float64),
        score_P=train.score_QM[index, m],
        tokens_P=record.tokens_QM[index, m].astype(np.float64),
        prompt_tokens_P=record.prompt_tokens_QM[index, m].astype(np.float64),
        estimate_P=np.array([estimate_query_tokens(prompt) for prompt in prompts], np.float64),
    )
    cost_usd = sum((Decimal(f"{cost:.{COST_DIGITS}f}") for cost in record.cost_QM[index, m]), Decimal(0))
    return Probed(train.models[m], probes, cost_usd, tuple(sorted({train.datasets[q] for q in index})))


def with_models(policy: NetworkPolicy, probed: Sequence[Probed]) -> NetworkPolicy:
    """The policy with these models among those it knows; its network is untouched. Raises DataError as `add_models`."""
    return NetworkPolicy(
        policy.encoder,
        add_models(policy.profiles, [(one.model, one.probes) for one in probed]),
        policy.parameters,
        policy.payoff,
        calibration=policy.calibration,
        name=policy.name,
        version="+".join([policy.version, *(one.model.name for one in probed)]),
    )


def expectation(profiles: Profiles, model: Model) -> Expectation:
    """What a policy with these profiles expects of the model."""
    pool, typical_1D = profiles.of_pool([model]), profiles.typical_D[None]
    return Expectation(
        score=float(pool.chance_BM(typical_1D)[0, 0]),
        output_tokens=float(pool.tokens_BM(typical_1D)[0, 0]),
        measured=bool(pool.known_M[0]),
    )


def provenance_of(
    probed: Probed, outcomes: str, seed: int, paid_usd: Decimal | None = None
) -> Mapping[str, object]:
    """An entry for `Provenance.trained_on`. paid_usd: where failed calls were charged too; default: the probes' cost."""
    return {
        "name": outcomes,
        "split": "train",
        "queries": len(probed.probes),
        "models": [probed.model.name],
        "datasets": list(probed.datasets),
        "probed": True,
        "cost_usd": format((probed.cost_usd if paid_usd is None else paid_usd).normalize(), "f"),
        "seed": seed,
    }
