"""Who is judged: the policies given, and the baselines, fitted on the train split alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigurationError
from ..policies.baselines import Cheapest, RandomModel, SingleModel, StaticBest, present_means
from ..policies.cascade import BestCascade
from ..policies.neighbours import ClusterBest, KNearest
from ..policies.states import ArrayPolicy, Floats
from ..tasks.outcomes import Outcomes
from .metrics import best_model
from .result import Kind

FITTED = ("static", "knn", "cluster", "cascade")
UNFITTED = ("random", "cheapest")
BASELINES = (*UNFITTED, *FITTED)


@dataclass(frozen=True, eq=False)
class Contestant:
    """swept: its decisions depend on lambda, so it is played at every cost weight."""

    name: str
    kind: Kind
    policy: ArrayPolicy
    swept: bool = True


@dataclass(frozen=True, eq=False)
class TrainFigures:
    """Per model on the train split. best: the highest score; its mean cost is the baselines' unit of lambda."""

    score_M: Floats
    cost_M: Floats
    coverage_M: Floats
    best: int

    @classmethod
    def of(cls, train: Outcomes) -> TrainFigures:
        present = train.recording.present_QM
        score_M = present_means(train.score_QM, present)
        coverage_M = present.mean(0)
        return cls(
            score_M,
            present_means(train.recording.cost_QM, present),
            coverage_M,
            best_model(score_M, coverage_M),
        )

    @property
    def reference_cost(self) -> float:
        """US dollars; 1 where the best model is free, so that lambda stays a number."""
        return float(self.cost_M[self.best]) or 1.0


def baseline_policy(name: str, train: Outcomes, seed: int = 0) -> ArrayPolicy:
    """A baseline or one model of the pool by its name. Raises ConfigurationError listing what there is."""
    record, figures = train.recording, TrainFigures.of(train)
    models, reference = train.model_names, figures.reference_cost
    observed = (train.score_QM, record.cost_QM, record.present_QM)
    if name == "random":
        return RandomModel(seed)
    if name == "cheapest":
        return Cheapest()
    if name == "static":
        return StaticBest(models, reference, figures.score_M, figures.cost_M)
    if name == "knn":
        return KNearest.fit(models, record.prompts, *observed, reference)
    if name == "cluster":
        return ClusterBest.fit(models, record.prompts, *observed, reference, seed=seed)
    if name == "cascade":
        return BestCascade.fit(
            models, train.score_QM, record.cost_QM, record.answer_QM, record.present_QM, reference
        )
    if name in models:
        return SingleModel(name)
    raise ConfigurationError(
        f"policy {name!r} is neither a file or folder nor a baseline; baselines: {', '.join(BASELINES)}, "
        f"or one model of the pool: {', '.join(models)}"
    )


def singles(names: Sequence[str]) -> list[Contestant]:
    return [Contestant(name, "single", SingleModel(name), swept=False) for name in names]


def baselines(train: Outcomes, seed: int) -> list[Contestant]:
    return [
        Contestant(name, "baseline", baseline_policy(name, train, seed), swept=name in FITTED)
        for name in BASELINES
    ]


def alone(train: Outcomes, test: Outcomes, least: float = 0.9) -> tuple[str, ...]:
    """Models that answered nearly every query of both splits, so that each can be judged alone."""
    present = np.minimum(train.recording.present_QM.mean(0), test.recording.present_QM.mean(0))
    return tuple(name for name, share in zip(test.model_names, present, strict=True) if share >= least)
