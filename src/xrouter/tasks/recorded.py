"""Writes a folder of recorded outcomes: queries.parquet, outcomes.parquet, models.parquet.

The schema is the one that `outcomes` reads. Calls that failed are left out: an endpoint that was down says
nothing of what its model knows. A model is `core` if it answered at
least nine queries of ten.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..catalog.model import Model
from ..episodes.answers import comparable_answer
from ..episodes.call_answers import offers_functions
from ..errors import DataError
from .graders import grade
from .journal import Row
from .task import Task

CORE_COVERAGE = 0.9

SCHEMAS = {
    "queries": pa.schema(
        [(name, pa.string()) for name in ("query_id", "dataset", "split", "prompt", "reference", "meta")]
    ),
    "outcomes": pa.schema(
        [
            ("query_id", pa.string()),
            ("model", pa.string()),
            ("score", pa.float32()),
            ("prompt_tokens", pa.int32()),
            ("completion_tokens", pa.int32()),
            ("cost_usd", pa.float64()),
            ("answer", pa.string()),
            ("response", pa.string()),
            ("latency_s", pa.float32()),
            ("n_calls", pa.int32()),
            ("cost_basis", pa.string()),
        ]
    ),
    "models": pa.schema(
        [
            ("model", pa.string()),
            ("provider", pa.string()),
            ("usd_per_mtok_in", pa.float64()),
            ("usd_per_mtok_out", pa.float64()),
            ("price_source", pa.string()),
            ("core", pa.bool_()),
        ]
    ),
}


@dataclass(frozen=True, slots=True)
class Summary:
    """What was written. strays: rows of queries or models that are not among those given; left out."""

    train: int
    test: int
    rows: int
    strays: int
    mean_score: Mapping[str, float]
    mean_cost_usd: Mapping[str, float]


def split_of(query_id: str, test_share: float) -> str:
    """train or test, by a hash of the query's id: the same on every machine, whatever else is collected."""
    draw = int.from_bytes(sha256(query_id.encode()).digest()[:8], "big") / 2**64
    return "test" if draw < test_share else "train"


def write_outcomes(
    folder: Path, tasks: Sequence[Task], models: Sequence[Model], rows: Iterable[Row], test_share: float = 0.1
) -> Summary:
    """Grades the rows and writes the three files, each whole or not at all.

    Queries and models without any answer are left out. Raises DataError where there is no answer at all or
    `test_share` is not within 0..1.
    """
    if not 0 <= test_share <= 1:
        raise DataError(f"test_share must lie in 0..1, got {test_share}")
    task_of = {task.id: task for task in tasks}
    model_of = {model.name: model for model in models}
    good = [row for row in rows if row.error is None]
    kept = {row.key: row for row in good if row.query_id in task_of and row.model in model_of}
    if not kept:
        raise DataError("no model answered any task: there is nothing to write")
    asked = {query_id for query_id, _ in kept}
    queries = [_query(task, test_share) for task in tasks if task.id in asked]
    outcomes = [_outcome(task_of[row.query_id], model_of[row.model], row) for row in kept.values()]
    answers = {name: [o for o in outcomes if o["model"] == name] for name in model_of}
    answers = {name: of_model for name, of_model in answers.items() if of_model}
    described = [
        _model(model_of[name], len(of_model) >= CORE_COVERAGE * len(queries))
        for name, of_model in answers.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (("queries", queries), ("outcomes", outcomes), ("models", described)):
        _write(folder / f"{name}.parquet", table, SCHEMAS[name])
    test = sum(query["split"] == "test" for query in queries)
    return Summary(
        train=len(queries) - test,
        test=test,
        rows=len(outcomes),
        strays=len({row.key for row in good}) - len(kept),
        mean_score={name: _mean(of_model, "score") for name, of_model in answers.items()},
        mean_cost_usd={name: _mean(of_model, "cost_usd") for name, of_model in answers.items()},
    )


def _query(task: Task, test_share: float) -> dict[str, Any]:
    return {
        "query_id": task.id,
        "dataset": task.dataset,
        "split": split_of(task.id, test_share),
        "prompt": task.request.query,
        "reference": task.reference,
        "meta": json.dumps({"grader": task.grader}),
    }


def _outcome(task: Task, model: Model, row: Row) -> dict[str, Any]:
    answer = row.answer
    if answer is None:
        answer = comparable_answer(
            row.text,
            row.tool_calls,
            question=task.request.query,
            functions_offered=offers_functions(task.request),
        )
    return {
        "query_id": row.query_id,
        "model": row.model,
        "score": grade(task, row.text, row.tool_calls),
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "cost_usd": float(row.cost_usd),
        "answer": answer,
        "response": row.text,
        "latency_s": row.latency_s,
        "n_calls": 1,
        "cost_basis": "simulated" if model.simulated else _basis(row),
    }


def _basis(row: Row) -> str:
    return "estimated_tokens" if row.estimated else "measured_tokens"


def _model(model: Model, core: bool) -> dict[str, Any]:
    price = model.price
    return {
        "model": model.name,
        "provider": model.provider,
        "usd_per_mtok_in": float(price.rates.input),
        "usd_per_mtok_out": float(price.rates.output),
        "price_source": f"{price.source} ({price.dated.isoformat()})",
        "core": core,
    }


def _mean(rows: Sequence[Mapping[str, Any]], column: str) -> float:
    return float(sum(row[column] for row in rows)) / len(rows)


def _write(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    part = path.with_suffix(".part")
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), part)
    os.replace(part, path)
