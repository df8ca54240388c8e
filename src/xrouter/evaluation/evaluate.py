"""Judges policies on recorded outcomes, beside every baseline.

All decisions are made first, from prompts and recordings; scores are joined to them afterwards.
Axes: W cost weights, Q queries, M models, R resamples, P points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..episodes.episode import DEFAULT_MAX_TURNS
from ..errors import ConfigurationError
from ..policies.states import ArrayPolicy
from ..tasks.outcomes import Outcomes, Split
from .bootstrap import Interval, interval, resampled_means, resamples
from .contestants import Contestant, TrainFigures, alone, baselines, singles
from .decisions import Decisions, play
from .forms import cap_points, target_points
from .metrics import Floats, area, failures, reliability, saving
from .oracle import oracle_choices
from .result import ITSELF, DatasetRow, Evaluation, Kind, Point, Result, Setting, Summary
from .tool_calling.joined import RouterPoint

PERCENTS = (100, 98, 95)
Progress = Callable[[str, int, int], None]
"""Called with what is being played, points done and points in all."""


def sweep(points: int = 96, highest: float = 1e4, lowest: float = 1e-3) -> tuple[float, ...]:
    """0 and this many log-spaced cost weights, rounded to six digits."""
    return (0.0, *(float(f"{weight:.6g}") for weight in np.geomspace(lowest, highest, points)))


DEFAULT_WEIGHTS = sweep()
"""Wide enough to reach from best to the cheapest model whatever their ratio of costs, so that no baseline is
held back by the range its policy's lambda happens to have."""


@dataclass(frozen=True, eq=False)
class Played:
    """A policy that was played elsewhere, on the very queries and pool that the others are judged on."""

    version: str
    decisions: Decisions
    router: tuple[RouterPoint, ...] = ()


def evaluate(
    outcomes: Outcomes,
    *,
    policies: Mapping[str, ArrayPolicy],
    train: Outcomes,
    split: Split = "test",
    cost_weights: Sequence[float] = DEFAULT_WEIGHTS,
    max_turns: int = DEFAULT_MAX_TURNS,
    seed: int = 0,
    bootstrap: int = 1000,
    with_baselines: bool = True,
    target_qualities: Sequence[float] = (),
    caps_usd: Sequence[float] = (),
    played: Mapping[str, Played] | None = None,
    drawn_from: int = 0,
    without_reference: int = 0,
    progress: Progress = lambda name, done, total: None,
) -> Evaluation:
    """`outcomes`: the set to take `split` from. `train`: what the baselines are fitted on and best is found on.

    target_qualities, caps_usd: further preferences that `policies` are played at, beside lambda.
    played: policies whose decisions are made already. drawn_from, without_reference: of `Setting`.

    Both over one pool. Without baselines, best and the cheapest model are still played: the metrics need them.
    Raises ConfigurationError where the pools differ or `played` is of other queries, DataError where the split is empty or a score is missing,
    RequestError where a target quality is asked of a policy without confidence.
    """
    test = outcomes.split(split)
    if train.model_names != test.model_names:
        raise ConfigurationError("train and test outcomes must be over one pool, in the same order")
    for name, one in (played or {}).items():
        if (one.decisions.query_ids, one.decisions.models) != (test.query_ids, test.model_names):
            raise ConfigurationError(f"{name} was played on other queries or another pool than is judged")
    weights = tuple(sorted({float(weight) for weight in cost_weights}))
    figures = TrainFigures.of(train)
    by_itself = alone(train, test) or (test.model_names[figures.best],)
    contestants = singles(by_itself)
    contestants += [Contestant(name, "policy", policy) for name, policy in policies.items()]
    if with_baselines:
        contestants += baselines(train, seed)

    draws_RQ = resamples(len(test), bootstrap, seed)
    forms: dict[str, dict[str, Any]] = {}
    for name, policy in policies.items():
        targets = target_points(policy, test, target_qualities, max_turns, draws_RQ)
        caps = cap_points(policy, test, caps_usd, max_turns, draws_RQ)
        forms[name] = {"targets": targets, "caps": caps}
    made = _play_all(contestants, test, weights, max_turns, progress)
    judge = _Judge.of(test, made, figures, by_itself, draws_RQ)
    results = [
        replace(
            judge.result(contestant.name, contestant.kind, contestant.policy.version, decisions),
            **forms.get(contestant.name, {}),
        )
        for contestant, decisions in made
    ]
    results += [
        replace(judge.result(name, "policy", one.version, one.decisions), router=one.router)
        for name, one in (played or {}).items()
    ]
    if with_baselines:
        results += _unions(judge, results)
        results.append(judge.oracle(weights, figures.reference_cost))
    else:
        kept = {judge.best_name, judge.cheapest_name}
        results = [result for result in results if result.kind != "single" or result.name in kept]
    setting = Setting(
        outcomes=outcomes.name,
        split=split,
        datasets=tuple(sorted(set(test.datasets))),
        pool=test.model_names,
        left_out=tuple(name for name in test.model_names if name not in by_itself),
        queries=len(test),
        train_queries=len(train),
        best=judge.best_name,
        cheapest=judge.cheapest_name,
        best_score=float(judge.best_score_Q.mean()),
        best_cost_usd=float(judge.best_cost_Q.mean()),
        cheapest_cost_usd=float(judge.cheapest_cost_Q.mean()),
        reference_cost_usd=figures.reference_cost,
        max_turns=max_turns,
        seed=seed,
        bootstrap=bootstrap,
        drawn_from=drawn_from,
        without_reference=without_reference,
    )
    order = {"policy": 0, "oracle": 4, "union": 2, "baseline": 1, "single": 3}
    return Evaluation(setting, tuple(sorted(results, key=lambda result: order[result.kind])))


def _play_all(
    contestants: Sequence[Contestant],
    test: Outcomes,
    weights: tuple[float, ...],
    max_turns: int,
    progress: Progress,
) -> list[tuple[Contestant, Decisions]]:
    total = sum(len(_weights(contestant, weights)) for contestant in contestants)
    done = 0
    played = []
    for contestant in contestants:
        name = contestant.name
        progress(name, done, total)

        def on_point(name: str = name) -> None:
            nonlocal done
            done += 1
            progress(name, done, total)

        points = _weights(contestant, weights)
        decisions = play(contestant.policy, test.recording, test.query_ids, points, max_turns, on_point)
        played.append((contestant, decisions))
    return played


def _weights(contestant: Contestant, weights: tuple[float, ...]) -> tuple[float, ...]:
    return weights if contestant.swept else (0.0,)


@dataclass(frozen=True, eq=False)
class _Judge:
    """The answer key, and the figures of best and the cheapest that every policy is measured against."""

    test: Outcomes
    weights_RQ: Floats
    best_name: str
    cheapest_name: str
    best_score_Q: Floats
    best_cost_Q: Floats
    cheapest_cost_Q: Floats

    @classmethod
    def of(
        cls,
        test: Outcomes,
        played: Sequence[tuple[Contestant, Decisions]],
        figures: TrainFigures,
        by_itself: Sequence[str],
        weights_RQ: Floats,
    ) -> _Judge:
        alone_now = {c.name: decisions for c, decisions in played if c.kind == "single"}
        score = np.where([name in by_itself for name in test.model_names], figures.score_M, -np.inf)
        best = test.model_names[int(score.argmax())]
        costs = {name: d.cost_WQ(test.recording.cost_QM)[0] for name, d in alone_now.items()}
        cheapest = min(costs, key=lambda name: float(costs[name].mean()))
        return cls(
            test=test,
            weights_RQ=weights_RQ,
            best_name=best,
            cheapest_name=cheapest,
            best_score_Q=alone_now[best].score_WQ(test.score_QM)[0],
            best_cost_Q=costs[best],
            cheapest_cost_Q=costs[cheapest],
        )

    def result(self, name: str, kind: Kind, version: str, decisions: Decisions) -> Result:
        score_WQ = decisions.score_WQ(self.test.score_QM)
        points = self._points(decisions, score_WQ)
        judged = kind == "policy"
        return Result(
            name=name,
            kind=kind,
            points=points,
            summary=self.summary(score_WQ, decisions.cost_WQ(self.test.recording.cost_QM)),
            version=version,
            decisions=decisions,
            reliability=reliability(decisions.confidence_WQ.ravel(), score_WQ.ravel()) if judged else None,
            datasets=self._datasets(decisions, score_WQ) if judged else {},
            outside_training=float(decisions.outside_Q.mean()),
        )

    def oracle(self, weights: tuple[float, ...], reference_cost: float) -> Result:
        record = self.test.recording
        choice_WQ = oracle_choices(self.test.score_QM, record.cost_QM, np.array(weights), reference_cost)
        turn_WQM = (choice_WQ[:, :, None] == np.arange(len(record.models))).astype(np.int8)
        unsure = np.full(choice_WQ.shape, np.nan)
        decisions = Decisions(
            self.test.model_names,
            self.test.query_ids,
            weights,
            turn_WQM,
            choice_WQ,
            unsure,
            np.zeros(len(self.test), bool),
        )
        score_WQ = decisions.score_WQ(self.test.score_QM)
        summary = self.summary(score_WQ, decisions.cost_WQ(record.cost_QM))
        return Result("oracle", "oracle", self._points(decisions, score_WQ), summary, decisions=decisions)

    def summary(self, score_PQ: Floats, cost_PQ: Floats) -> Summary:
        """Figures and intervals; the frontier and best's own figures are recomputed in each resample."""
        score, cost = self._figures(score_PQ), self._figures(cost_PQ)
        best_score, best_cost, cheapest_cost = (
            self._figures(values_Q[None])[:, 0]
            for values_Q in (self.best_score_Q, self.best_cost_Q, self.cheapest_cost_Q)
        )
        highest = score.max(1)
        return Summary(
            max_score=_interval(highest),
            gain=_interval(highest - best_score),
            saving={p: _interval(saving(score, cost, best_score, best_cost, p)) for p in PERCENTS},
            area=_interval(area(score, cost, cheapest_cost, best_cost)),
        )

    def _figures(self, values_PQ: Floats) -> Floats:
        """Means [1 + R, P]: of all queries first, then of each resample."""
        return np.concatenate([values_PQ.mean(1)[None], resampled_means(self.weights_RQ, values_PQ)])

    def _points(self, decisions: Decisions, score_WQ: Floats) -> tuple[Point, ...]:
        cost_WQ = decisions.cost_WQ(self.test.recording.cost_QM)
        score_RW = resampled_means(self.weights_RQ, score_WQ)
        cost_RW = resampled_means(self.weights_RQ, cost_WQ)
        points = []
        for w, weight in enumerate(decisions.cost_weights):
            called_QM, source_Q = decisions.called_WQM[w], decisions.answer_from_WQ[w]
            asked = called_QM.mean(0)
            answered = _shares(decisions.models, (source_Q[:, None] == np.arange(called_QM.shape[1])).mean(0))
            own_score_Q = None if decisions.own is None else decisions.own.score_WQ[w]
            if own_score_Q is not None and not np.isnan(own_score_Q).all():
                answered[ITSELF] = float((~np.isnan(own_score_Q)).mean())
            points.append(
                Point(
                    cost_weight=weight,
                    score=interval(float(score_WQ[w].mean()), score_RW[:, w]),
                    cost_usd=interval(float(cost_WQ[w].mean()), cost_RW[:, w]),
                    calls_per_query=float(decisions.calls_WQ[w].mean()),
                    asked=_shares(decisions.models, asked),
                    answered=answered,
                    failures=failures(self.test.score_QM, called_QM, source_Q, own_score_Q),
                    calibration_error=reliability(decisions.confidence_WQ[w], score_WQ[w]).error,
                )
            )
        return tuple(points)

    def _datasets(self, decisions: Decisions, score_WQ: Floats) -> dict[str, tuple[DatasetRow, ...]]:
        cost_WQ = decisions.cost_WQ(self.test.recording.cost_QM)
        score_W, cost_W = score_WQ.mean(1), cost_WQ.mean(1)
        at = {"max": int(np.lexsort((cost_W, -score_W))[0])}
        for percent in PERCENTS:
            enough = score_W >= percent / 100 * self.best_score_Q.mean() - 1e-12
            if enough.any():
                at[str(percent)] = int(np.where(enough, cost_W, np.inf).argmin())
        names = np.array(self.test.datasets)
        return {
            label: tuple(
                DatasetRow(
                    str(name),
                    int((names == name).sum()),
                    float(self.best_score_Q[names == name].mean()),
                    float(self.best_cost_Q[names == name].mean()),
                    float(score_WQ[w, names == name].mean()),
                    float(cost_WQ[w, names == name].mean()),
                )
                for name in np.unique(names)
            )
            for label, w in at.items()
        }


def _unions(judge: _Judge, results: Sequence[Result]) -> list[Result]:
    """All singles as one frontier; kNN's and the cascade's points as one frontier."""
    wanted = {
        "all singles": [r for r in results if r.kind == "single"],
        "knn + cascade": [r for r in results if r.kind == "baseline" and r.name in ("knn", "cascade")],
    }
    unions = []
    for name, members in wanted.items():
        decisions = [member.decisions for member in members if member.decisions is not None]
        score_PQ = np.concatenate([d.score_WQ(judge.test.score_QM) for d in decisions])
        cost_PQ = np.concatenate([d.cost_WQ(judge.test.recording.cost_QM) for d in decisions])
        points = tuple(point for member in members for point in member.points)
        unions.append(Result(name, "union", points, judge.summary(score_PQ, cost_PQ)))
    return unions


def _interval(values: Floats) -> Interval:
    """values[0] is the figure itself, the rest are its resamples."""
    return interval(float(values[0]), values[1:])


def _shares(models: Sequence[str], share_M: Floats) -> dict[str, float]:
    """By falling share; models never used are left out."""
    order = np.argsort(-share_M, kind="stable")
    return {models[m]: float(share_M[m]) for m in order if share_M[m] > 0}
