"""What a policy decided, played without the answer key, written down so that anyone can check the figures.

Axes: W cost weights (the points of a sweep), Q queries, M models.

decisions.jsonl, one line a query and point: {"query_id", "point": lambda, "calls": [model, ...] in the order made,
"answer_from": model or null}. Of a language model that routes also "turns": [the turn of each call],
"policy_cost_usd": what its own tokens cost, and, where it answered in its own words, "own_answer" and its "grader".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..policies.states import ArrayPolicy, Bools, Floats, Ints
from ..tasks.answer_key import AnswerKey, load_answer_key
from ..tasks.outcomes import Recording
from ..tasks.replay import Replay
from .own_work import OwnWork

TOLERANCE = 1e-9
"""Relative difference allowed between a figure and its recomputation: sums taken in another order."""


@dataclass(frozen=True, eq=False)
class Decisions:
    """turn_WQM: the turn (from 1) in which a model was asked, 0 if never. answer_from_WQ: -1 for none.

    outside_Q: queries that the policy itself called unlike all that it was trained on.
    own: what the policy paid and answered by itself; None where it cannot.
    """

    models: tuple[str, ...]
    query_ids: tuple[str, ...]
    cost_weights: tuple[float, ...]
    turn_WQM: NDArray[np.int8]
    answer_from_WQ: Ints
    confidence_WQ: Floats
    outside_Q: Bools
    own: OwnWork | None = None

    @property
    def called_WQM(self) -> Bools:
        return self.turn_WQM > 0

    @property
    def calls_WQ(self) -> Ints:
        """How many calls were made."""
        calls = self.called_WQM.sum(2)
        return np.asarray(calls if self.own is None else calls + self.own.repeats_WQM.sum(2))

    def cost_WQ(self, cost_QM: Floats) -> Floats:
        """US dollars, every call charged, and what the policy's own tokens cost."""
        cost_WQ: Floats = np.where(self.called_WQM, cost_QM, 0.0).sum(2)
        if self.own is None:
            return cost_WQ
        again_WQ: Floats = (self.own.repeats_WQM * cost_QM).sum(2)
        return cost_WQ + again_WQ + self.own.cost_WQ

    def score_WQ(self, score_QM: Floats) -> Floats:
        """Score of the answers handed over, 0 where there was none. Raises DataError where an answer has no score."""
        handed_over = self.answer_from_WQ >= 0
        score = score_QM[np.arange(len(score_QM)), np.maximum(self.answer_from_WQ, 0)]
        if np.isnan(score[handed_over]).any():
            w, q = np.argwhere(np.isnan(score) & handed_over)[0]
            raise DataError(
                f"outcomes.parquet: the answer of {self.models[self.answer_from_WQ[w, q]]!r} to query "
                f"{self.query_ids[q]!r} has no score; remove the row or score it"
            )
        score = np.where(handed_over, score, 0.0)
        return score if self.own is None else np.where(self.own.answered_WQ, self.own.score_WQ, score)

    def lines(self) -> Iterator[str]:
        for w, point in enumerate(self.cost_weights):
            for q, query_id in enumerate(self.query_ids):
                turns = self.turn_WQM[w, q]
                called = np.flatnonzero(turns)
                order = called[np.argsort(turns[called], kind="stable")]
                source = int(self.answer_from_WQ[w, q])
                line = {
                    "query_id": query_id,
                    "point": point,
                    "calls": [self.models[m] for m in order],
                    "answer_from": None if source < 0 else self.models[source],
                }
                yield json.dumps(line if self.own is None else line | self.own.line(w, q))

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in self.lines())


def play(
    policy: ArrayPolicy,
    recording: Recording,
    query_ids: Sequence[str],
    cost_weights: Sequence[float],
    max_turns: int,
    on_point: Callable[[], None] = lambda: None,
) -> Decisions:
    """Every query at every cost weight. The recording holds no score: nothing here could leak one."""
    replay = Replay(recording, max_turns)
    text_QD = policy.encode(recording.prompts)
    query_Q = np.arange(len(recording))
    turns, answers, confidences = [], [], []
    outside_Q = np.zeros(len(query_Q), bool)
    for weight in cost_weights:
        rollouts = replay.run(policy, text_QD, query_Q, np.full(len(query_Q), float(weight)))
        turns.append(rollouts.turn_BM.astype(np.int8))
        answers.append(rollouts.answer_from_B)
        confidences.append(rollouts.confidence_B)
        outside_Q |= ~rollouts.familiar_B
        on_point()
    return Decisions(
        models=tuple(model.name for model in recording.models),
        query_ids=tuple(query_ids),
        cost_weights=tuple(float(weight) for weight in cost_weights),
        turn_WQM=np.stack(turns),
        answer_from_WQ=np.stack(answers),
        confidence_WQ=np.stack(confidences),
        outside_Q=outside_Q,
    )


def recompute(decisions_path: str | Path, outcomes_folder: str | Path) -> dict[float, tuple[float, float]]:
    """point -> (mean score, mean cost in US dollars), from decisions.jsonl and outcomes.parquet alone.

    An answer in the policy's own words is graded against its reference in queries.parquet.
    Raises DataError naming the line: broken JSON, a call without an outcome, an answer from a model that was not
    called, a query twice at one point; or a point that covers other queries than the first.
    """
    table = _outcomes(Path(outcomes_folder))
    key: AnswerKey | None = None
    totals: dict[float, list[float]] = {}
    seen: dict[float, set[str]] = {}
    with Path(decisions_path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            place = f"{decisions_path} line {number}"
            try:
                row = json.loads(line)
                query, point, calls, source = (
                    row[name] for name in ("query_id", "point", "calls", "answer_from")
                )
                own_answer, own_cost = row.get("own_answer"), float(row.get("policy_cost_usd", 0.0))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{place} is not a decision: {error!r}") from None
            missing = [model for model in calls if (query, model) not in table]
            if missing:
                raise DataError(f"{place}: no outcome of {missing[0]!r} on query {query!r}")
            if source is not None and source not in calls:
                raise DataError(f"{place}: the answer is from {source!r}, which was not called")
            if source is not None and own_answer is not None:
                raise DataError(f"{place}: the answer is both from {source!r} and the policy's own")
            if query in seen.setdefault(point, set()):
                raise DataError(f"{place}: query {query!r} is there twice at point {point}")
            seen[point].add(query)
            total = totals.setdefault(point, [0.0, 0.0])
            if own_answer is not None:
                key = key or load_answer_key(outcomes_folder)
                total[0] += key.score(query, own_answer, row.get("grader"))
            total[0] += 0.0 if source is None else table[query, source][0]
            total[1] += own_cost + sum(table[query, model][1] for model in calls)
    queries = next(iter(seen.values()), set())
    for point, at_point in seen.items():
        if at_point != queries:
            raise DataError(f"{decisions_path}: point {point} covers other queries than the first point")
    return {point: (score / len(queries), cost / len(queries)) for point, (score, cost) in totals.items()}


def check(
    reported: Mapping[float, tuple[float, float]], recomputed: Mapping[float, tuple[float, float]]
) -> None:
    """Raises DataError where a point's reported score or cost is not the recomputed one."""
    if reported.keys() != recomputed.keys():
        raise DataError(f"decisions.jsonl has points {sorted(recomputed)}, the report has {sorted(reported)}")
    for point, figures in reported.items():
        for name, ours, theirs in zip(("score", "cost_usd"), figures, recomputed[point], strict=True):
            if not abs(ours - theirs) <= TOLERANCE * max(abs(ours), abs(theirs), 1e-6):
                raise DataError(
                    f"point {point}: the report says {name} {ours!r}, decisions.jsonl with outcomes.parquet "
                    f"gives {theirs!r}"
                )


def _outcomes(folder: Path) -> dict[tuple[str, str], tuple[float, float]]:
    import pyarrow.parquet as pq

    path = folder / "outcomes.parquet"
    if not path.is_file():
        raise DataError(f"{path} is missing")
    table = pq.read_table(path, columns=["query_id", "model", "score", "cost_usd"]).to_pydict()
    rows = zip(table["query_id"], table["model"], table["score"], table["cost_usd"], strict=True)
    return {
        (query, model): (score, cost)
        for query, model, score, cost in rows
        if score is not None and cost is not None
    }
