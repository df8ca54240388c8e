"""What an evaluation found. Money is in US dollars a query; shares are of the queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .bootstrap import Interval
from .decisions import Decisions
from .metrics import Failures, Reliability
from .tool_calling.joined import RouterPoint

JUDGED = " (judged)"
"""Ends the name of a baseline that is judged as a policy, to tell it from the baseline beside it."""

ITSELF = "(itself)"
"""In `Point.answered`: a language model that routes answered in its own words."""

Kind = Literal["policy", "single", "baseline", "union", "oracle"]


@dataclass(frozen=True)
class Point:
    """One setting of a policy's preference.

    asked: share of the queries on which each model was called; answered: on which its answer was handed over.
    calibration_error: of the stated confidences; NaN where none was stated.
    """

    cost_weight: float
    score: Interval
    cost_usd: Interval
    calls_per_query: float
    asked: Mapping[str, float]
    answered: Mapping[str, float]
    failures: Failures
    calibration_error: float


@dataclass(frozen=True)
class TargetPoint:
    """What asking for one target quality brought.

    confidence: the mean stated one, to hold against the score. missed: share whose answer says that it falls short.
    score_where_reached: mean score of the others, NaN of none.
    """

    target_quality: float
    score: Interval
    confidence: float
    cost_usd: Interval
    calls_per_query: float
    missed: float
    score_where_reached: float


@dataclass(frozen=True)
class CapPoint:
    """What one cap on a query's cost brought. unanswered: share where it left no whole answer."""

    max_cost_usd: float
    score: Interval
    cost_usd: Interval
    largest_cost_usd: float
    calls_per_query: float
    unanswered: float


@dataclass(frozen=True)
class Summary:
    """The figures of a whole set of points. saving: by percent of best's score, of best's cost."""

    max_score: Interval
    gain: Interval
    saving: Mapping[int, Interval]
    area: Interval


@dataclass(frozen=True)
class DatasetRow:
    """One dataset's figures at one point of the policy, beside best's."""

    dataset: str
    queries: int
    best_score: float
    best_cost_usd: float
    score: float
    cost_usd: float


@dataclass(frozen=True, eq=False)
class Result:
    """A policy, a baseline, or a union of several (which has points and a summary only).

    datasets: by the percent of best's score that the point reaches at least cost, and "max" for the highest score.
    outside_training: share of the queries that the policy called unlike all that it was trained on.
    router: figures of the language model that routes, where the policy is one.
    """

    name: str
    kind: Kind
    points: tuple[Point, ...]
    summary: Summary
    version: str = ""
    decisions: Decisions | None = None
    reliability: Reliability | None = None
    datasets: Mapping[str, tuple[DatasetRow, ...]] = field(default_factory=dict)
    targets: tuple[TargetPoint, ...] = ()
    caps: tuple[CapPoint, ...] = ()
    outside_training: float = 0.0
    router: tuple[RouterPoint, ...] = ()

    def figures(self) -> dict[float, tuple[float, float]]:
        """lambda -> (score, cost), to compare with what others recompute."""
        return {p.cost_weight: (p.score.value, p.cost_usd.value) for p in self.points}


@dataclass(frozen=True)
class Setting:
    """What was judged, on what. left_out: pool models that answered too little to stand alone.

    drawn_from: queries of the split that `queries` were drawn from at random with `seed`; 0 = all were taken.
    without_reference: queries left out since an answer in a policy's own words could not be graded there.
    """

    outcomes: str
    split: str
    datasets: tuple[str, ...]
    pool: tuple[str, ...]
    left_out: tuple[str, ...]
    queries: int
    train_queries: int
    best: str
    cheapest: str
    best_score: float
    best_cost_usd: float
    cheapest_cost_usd: float
    reference_cost_usd: float
    max_turns: int
    seed: int
    bootstrap: int
    drawn_from: int = 0
    without_reference: int = 0


@dataclass(frozen=True, eq=False)
class Evaluation:
    setting: Setting
    results: tuple[Result, ...]

    def of_kind(self, *kinds: Kind) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.kind in kinds)

    def named(self, name: str) -> Result | None:
        return next((result for result in self.results if result.name == name), None)

    @property
    def judged(self) -> tuple[Result, ...]:
        return self.of_kind("policy")
