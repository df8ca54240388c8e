"""The right answers of recorded queries: what an answer that no recording has a score of is graded against."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from ..errors import ConfigurationError, DataError
from ..messages import Request
from .graders import grader_named
from .grading import Grading
from .task import Task

DEFAULT_GRADER = "exact"


@dataclass(frozen=True, eq=False)
class AnswerKey:
    """tasks: by query id, those that have a reference."""

    tasks: Mapping[str, Task]
    _grading: Grading = field(default_factory=Grading, repr=False)

    def __contains__(self, query_id: object) -> bool:
        return query_id in self.tasks

    def grader(self, query_id: str) -> str:
        return self.tasks[query_id].grader

    def score(self, query_id: str, text: str, grader: str | None = None) -> float:
        """0..1, in a time limit where the grader could take for ever. `grader`: another than the query's own.

        Not to be called from an event loop. Raises DataError where there is no reference.
        """
        task = self.tasks.get(query_id)
        if task is None:
            raise DataError(
                f"queries.parquet: query {query_id!r} has no reference to grade an answer against: leave the query out"
            )
        if grader is not None and grader != task.grader:
            task = Task(task.id, task.dataset, task.request, grader, task.reference)
        return asyncio.run(self._grading.grade(task, text))


def load_answer_key(folder: str | Path, graders: Mapping[str, str] | None = None) -> AnswerKey:
    """Reads queries.parquet. A query's grader: what `meta` names, else of `graders` by data set or the part after its
    last '/', else that of "" (for all others), else `exact`.

    Raises DataError for a file without references, ConfigurationError for a grader that does not exist, or for a
    data set that is not there.
    """
    graders = graders or {}
    for name in graders.values():
        grader_named(name)
    path = Path(folder) / "queries.parquet"
    if not path.is_file():
        raise DataError(f"{path} is missing")
    present = pq.read_schema(path).names
    if "reference" not in present:
        raise DataError(f"{path}: column 'reference' is missing: without right answers nothing can be graded")
    columns = ["query_id", "dataset", "prompt", "reference", *(["meta"] if "meta" in present else [])]
    rows = pq.read_table(path, columns=columns).to_pylist()
    datasets = {row["dataset"] for row in rows}
    known = {"", *datasets, *(name.rsplit("/", 1)[-1] for name in datasets)}
    for name in graders:
        if name not in known:
            raise ConfigurationError(
                f"a grader is named for data set {name!r}, which is not there; there are {', '.join(sorted(datasets))}",
                param="grader",
            )
    tasks = {}
    for row in rows:
        dataset = row["dataset"]
        if not row["reference"]:
            continue
        named = (dataset, dataset.rsplit("/", 1)[-1], "")
        grader = grader_in(row.get("meta")) or next(
            (graders[name] for name in named if name in graders), DEFAULT_GRADER
        )
        request = Request.from_text(row["prompt"])
        tasks[row["query_id"]] = Task(row["query_id"], dataset, request, grader, row["reference"])
    return AnswerKey(tasks)


def grader_in(meta: str | None) -> str | None:
    """The grader that a query's `meta` names, None if it names none."""
    try:
        found = json.loads(meta) if meta else None
    except ValueError:
        return None
    grader = found.get("grader") if isinstance(found, dict) else None
    return grader if isinstance(grader, str) else None
