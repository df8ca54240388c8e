"""Played episodes as what the judge reads: decisions, and the figures of the routing model itself.

Own words are graded here, after playing. Axes: W cost weights, Q queries, M models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import DataError
from ...tasks.answer_key import AnswerKey
from ...tasks.outcomes import Outcomes
from ..decisions import Decisions
from ..own_work import OwnWork
from .play import PlayedEpisode


@dataclass(frozen=True)
class RouterPoint:
    """The routing model at one cost weight. Money in US dollars a query, tokens and seconds (median) a decision.

    decisions: a query. invalid: share of its replies with something wrong, by kind in `problems` (how often). stood_in:
    share of the queries where something else decided in its place. own_words: share of the queries that it answered
    itself. unanswered: share without any answer.
    """

    cost_weight: float
    decisions: float
    prompt_tokens: float
    completion_tokens: float
    cost_usd: float
    seconds: float
    invalid: float
    stood_in: float
    own_words: float
    unanswered: float
    problems: Mapping[str, int]


def joined(
    played: Sequence[PlayedEpisode], test: Outcomes, key: AnswerKey | None
) -> tuple[Decisions, tuple[RouterPoint, ...]]:
    """Without a `key` answers in own words count nothing. Raises DataError where an episode is missing, or an answer in
    own words has no reference."""
    weights = tuple(sorted({one.point for one in played}))
    at = {(one.point, one.query_id): one for one in played}
    missing = [query for query in test.query_ids if any((w, query) not in at for w in weights)]
    if missing:
        raise DataError(f"query {missing[0]!r} was not played at every cost weight")
    grid = [[at[w, query] for query in test.query_ids] for w in weights]
    column = {name: m for m, name in enumerate(test.model_names)}
    shape = (len(weights), len(test), len(column))
    turn, repeats = np.zeros(shape, np.int8), np.zeros(shape, np.int64)
    source, score = np.full(shape[:2], -1, np.int64), np.full(shape[:2], np.nan)
    for w, row in enumerate(grid):
        for q, one in enumerate(row):
            for model, number in one.calls:
                m = column[model]
                if turn[w, q, m]:
                    repeats[w, q, m] += 1
                else:
                    turn[w, q, m] = number
            if one.answer_from is not None:
                source[w, q] = column[one.answer_from]
            if one.text is not None:
                score[w, q] = 0.0 if key is None else key.score(one.query_id, one.text)
    own = OwnWork(
        cost_WQ=np.array([[float(one.policy_cost_usd) for one in row] for row in grid]),
        repeats_WQM=repeats,
        calls_WQ=tuple(tuple(one.calls for one in row) for row in grid),
        text_WQ=tuple(tuple(one.text for one in row) for row in grid),
        grader_Q=tuple(key.grader(query) if key and query in key else "" for query in test.query_ids),
        score_WQ=score,
        stood_in_WQ=np.array([[one.stood_in for one in row] for row in grid], bool),
    )
    decisions = Decisions(
        models=test.model_names,
        query_ids=test.query_ids,
        cost_weights=weights,
        turn_WQM=turn,
        answer_from_WQ=source,
        confidence_WQ=np.full(shape[:2], np.nan),
        outside_Q=np.zeros(len(test), bool),
        own=own,
    )
    return decisions, tuple(_point(w, row) for w, row in zip(weights, grid, strict=True))


def _point(weight: float, row: Sequence[PlayedEpisode]) -> RouterPoint:
    replies = [reply for one in row for reply in one.replies]
    answered = [reply for reply in replies if reply.error is None]
    problems: Counter[str] = Counter()
    for one in row:
        problems.update(one.problems)
    return RouterPoint(
        cost_weight=weight,
        decisions=sum(one.decisions for one in row) / len(row),
        prompt_tokens=_mean([reply.usage.prompt_tokens for reply in answered]),
        completion_tokens=_mean([reply.usage.completion_tokens for reply in answered]),
        cost_usd=sum(float(one.policy_cost_usd) for one in row) / len(row),
        seconds=float(np.median([reply.seconds for reply in answered])) if answered else float("nan"),
        invalid=sum(one.faulty for one in row) / max(1, sum(one.decisions for one in row)),
        stood_in=_share([one.stood_in for one in row]),
        own_words=_share([one.text is not None for one in row]),
        unanswered=_share([one.text is None and one.answer_from is None for one in row]),
        problems=dict(problems.most_common()),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)
