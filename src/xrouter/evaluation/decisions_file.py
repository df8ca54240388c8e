"""decisions.jsonl read back into decisions, to be judged again or learnt from.

Axes: W cost weights, Q queries, M models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..tasks.answer_key import AnswerKey
from ..tasks.outcomes import Outcomes
from .decisions import Decisions
from .own_work import OwnWork

REQUIRED = ("query_id", "point", "calls", "answer_from")


@dataclass(frozen=True, slots=True)
class _Line:
    """turns: of each call; without them each call is a turn of its own."""

    query_id: str
    point: float
    calls: Sequence[str]
    answer_from: str | None
    turns: Sequence[int] = ()
    policy_cost_usd: float | None = None
    own_answer: str | None = None
    stood_in: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


def read_decisions(
    path: Path, outcomes: Outcomes, key: AnswerKey | None = None
) -> tuple[Outcomes, Decisions]:
    """(the queries of `outcomes` that the file decides on, the decisions). Other queries of the file are passed over.

    Without a `key` answers in own words count nothing. Raises DataError naming the line that does not fit, for a model
    outside the pool, a query that is not there at every point, and where no query is one of `outcomes`.
    """
    row = {query: q for q, query in enumerate(outcomes.query_ids)}
    column = {name: m for m, name in enumerate(outcomes.model_names)}
    found: dict[tuple[float, str], _Line] = {}
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, start=1):
            place = f"{path} line {number}"
            line = _read(place, text)
            if line.query_id not in row:
                continue
            strange = [name for name in (*line.calls, line.answer_from) if name and name not in column]
            if strange:
                raise DataError(
                    f"{place}: model {strange[0]!r} is not in the pool; it has {', '.join(column)}"
                )
            if (line.point, line.query_id) in found:
                raise DataError(f"{place}: query {line.query_id!r} is there twice at point {line.point:g}")
            found[line.point, line.query_id] = line
    weights = tuple(sorted({point for point, _ in found}))
    ids = {query for _, query in found}
    if not found:
        raise DataError(
            f"{path}: none of its queries is among the {len(outcomes)} of {outcomes.name} asked for"
        )
    for query in ids:
        for point in weights:
            if (point, query) not in found:
                raise DataError(f"{path}: query {query!r} is missing at point {point:g}")
    part = outcomes.rows([q for q, query in enumerate(outcomes.query_ids) if query in ids])
    grid = [[found[point, query] for query in part.query_ids] for point in weights]
    return part, _decisions(part, weights, grid, column, key)


def _decisions(
    part: Outcomes,
    weights: tuple[float, ...],
    grid: Sequence[Sequence[_Line]],
    column: Mapping[str, int],
    key: AnswerKey | None,
) -> Decisions:
    shape = (len(weights), len(part), len(column))
    turn, repeats = np.zeros(shape, np.int8), np.zeros(shape, np.int64)
    source, score = np.full(shape[:2], -1, np.int64), np.full(shape[:2], np.nan)
    for w, lines in enumerate(grid):
        for q, line in enumerate(lines):
            for model, number in zip(line.calls, line.turns, strict=True):
                m = column[model]
                if turn[w, q, m]:
                    repeats[w, q, m] += 1
                else:
                    turn[w, q, m] = number
            if line.answer_from is not None:
                source[w, q] = column[line.answer_from]
            if line.own_answer is not None:
                grader = line.extra.get("grader")
                score[w, q] = 0.0 if key is None else key.score(line.query_id, line.own_answer, grader)
    own = None
    if any(line.policy_cost_usd is not None for lines in grid for line in lines):
        own = OwnWork(
            cost_WQ=np.array([[line.policy_cost_usd or 0.0 for line in lines] for lines in grid]),
            repeats_WQM=repeats,
            calls_WQ=tuple(
                tuple(tuple(zip(line.calls, line.turns, strict=True)) for line in lines) for lines in grid
            ),
            text_WQ=tuple(tuple(line.own_answer for line in lines) for lines in grid),
            grader_Q=tuple(str(line.extra.get("grader", "")) for line in grid[0]),
            score_WQ=score,
            stood_in_WQ=np.array([[line.stood_in for line in lines] for lines in grid], bool),
        )
    return Decisions(
        models=part.model_names,
        query_ids=part.query_ids,
        cost_weights=weights,
        turn_WQM=turn,
        answer_from_WQ=source,
        confidence_WQ=np.full(shape[:2], np.nan),
        outside_Q=np.zeros(len(part), bool),
        own=own,
    )


def _read(place: str, text: str) -> _Line:
    try:
        row = json.loads(text)
        query, point, calls, source = (row[name] for name in REQUIRED)
        turns = row.get("turns") or list(range(1, len(calls) + 1))
        cost = row.get("policy_cost_usd")
        line = _Line(
            str(query),
            float(point),
            tuple(calls),
            source,
            tuple(int(turn) for turn in turns),
            None if cost is None else float(cost),
            row.get("own_answer"),
            bool(row.get("stood_in", False)),
            row,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{place} is not a decision: {error!r}") from None
    if len(line.turns) != len(line.calls) or not all(1 <= turn <= 127 for turn in line.turns):
        raise DataError(f"{place}: turns must hold one number from 1 for each of the {len(line.calls)} calls")
    if line.answer_from is not None and line.answer_from not in line.calls:
        raise DataError(f"{place}: the answer is from {line.answer_from!r}, which was not called")
    return line
