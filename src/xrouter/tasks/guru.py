"""Parquet files of Reasoning360 (the Guru data) and others in verl's columns, as tasks.

Columns read: `data_source` (domain__name), `prompt` (chat messages; empty where the text is in `raw_prompt`), `ability`,
`reward_model.ground_truth`, `extra_info.index`, and a column of pass rates where one is named. Others are ignored.

| domain, the part of data_source before "__" | grader |
|---|---|
| math, stem, table, ood | choice where the truth is one letter of a question with options, else math |
| logic, simulation | `json_answer` where the truth is a JSON object or list, else exact |
| codegen, and any other | none: the rows are left out, unless a grader is named for them |
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, DataError
from ..messages import Request
from .graders import grader_named
from .json_text import json_values
from .task import Task, task_id

REQUIRED = ("data_source", "prompt", "reward_model")
_OPTIONS = re.compile(r"^\W*A\b.*^\W*B\b", re.DOTALL | re.MULTILINE)
_LETTER = re.compile(r"\(?[A-Z]\)?")


@dataclass(frozen=True, slots=True)
class Row:
    """One row that can be graded. pass_rate: 0..1, of the named column; None where there is none."""

    task: Task
    ability: str
    pass_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """What a file holds. left_out: how many rows of each data_source cannot be graded."""

    rows: tuple[Row, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)


def read_table(
    path: Path, *, graders: Mapping[str, str] | None = None, pass_rate_column: str | None = None
) -> Table:
    """Every row that can be graded, in the file's order.

    graders: data_source, or its domain, -> a grader's name; takes the place of the table above.
    Raises ConfigurationError for a grader that does not exist, DataError naming file, row and column.
    """
    named = graders or {}
    for grader in named.values():
        grader_named(grader)
    wanted = [*REQUIRED, *([pass_rate_column] if pass_rate_column else [])]
    rows: list[Row] = []
    left_out: Counter[str] = Counter()
    for number, raw in enumerate(_raw_rows(path, wanted)):
        where = f"{path} row {number}"
        source = raw["data_source"]
        if not isinstance(source, str) or not source:
            raise DataError(f"{where}: data_source must be a name such as 'math__gsm8k', got {source!r}")
        messages, reference = _messages(where, raw), _reference(where, raw["reward_model"])
        domain = source.partition("__")[0]
        text = Request(messages).text
        chosen = named.get(source) or named.get(domain) or _grader(domain, text, reference)
        if chosen is None:
            left_out[source] += 1
            continue
        task = Task(task_id(source, text), source, Request(messages), chosen, reference)
        rows.append(Row(task, str(raw.get("ability") or domain), _rate(where, raw, pass_rate_column)))
    return Table(tuple(rows), dict(sorted(left_out.items())))


def json_answer(task: Task, text: str, tool_calls: Sequence[Mapping[str, Any]] = ()) -> float:
    """1 where the last JSON object or list of the answer equals the reference, else 0."""
    wanted = next(json_values(task.reference), None)
    if wanted is None:
        raise DataError(f"task {task.id}: reference {task.reference!r} is no JSON object or list")
    given = list(json_values(text))
    return float(bool(given) and json.dumps(given[-1], sort_keys=True) == json.dumps(wanted, sort_keys=True))


def _raw_rows(path: Path, wanted: Sequence[str]) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        present = pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise ConfigurationError(f"{path} cannot be read as parquet: {error}") from error
    missing = [name for name in wanted if name not in present]
    if missing:
        raise DataError(f"{path}: column {missing[0]!r} is missing; it has {', '.join(sorted(present))}")
    optional = [name for name in ("ability", "raw_prompt") if name in present]
    rows: list[dict[str, Any]] = pq.read_table(path, columns=[*wanted, *optional]).to_pylist()
    return rows


def _messages(where: str, raw: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    prompt = raw["prompt"]
    if isinstance(prompt, str) and prompt:
        return ({"role": "user", "content": prompt},)
    if not prompt and isinstance(raw.get("raw_prompt"), str) and raw["raw_prompt"]:
        return ({"role": "user", "content": raw["raw_prompt"]},)
    said = prompt if isinstance(prompt, list) else []
    messages = tuple(
        {"role": message["role"], "content": message["content"]}
        for message in said
        if isinstance(message, Mapping)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
    )
    if not messages or len(messages) != len(said) or not Request(messages).query.strip():
        raise DataError(
            f"{where}: prompt must be messages with role and content, one of them the user's; got {str(prompt)[:80]!r}"
        )
    return messages


def _reference(where: str, reward_model: Any) -> str:
    truth = reward_model.get("ground_truth") if isinstance(reward_model, Mapping) else None
    if isinstance(truth, list) and len(truth) == 1:
        truth = truth[0]
    if truth is None or truth == "":
        raise DataError(f"{where}: reward_model.ground_truth is missing; it is the right answer")
    return truth if isinstance(truth, str) else json.dumps(truth, ensure_ascii=False)


def _grader(domain: str, text: str, reference: str) -> str | None:
    if domain in ("math", "stem", "table", "ood"):
        lettered = _LETTER.fullmatch(reference.strip()) and _OPTIONS.search(text)
        return "choice" if lettered else "math"
    if domain in ("logic", "simulation"):
        return f"{__name__}:json_answer" if _is_json(reference) else "exact"
    return None


def _is_json(reference: str) -> bool:
    try:
        return isinstance(json.loads(reference), (dict, list))
    except (ValueError, RecursionError):
        return False


def _rate(where: str, raw: Mapping[str, Any], column: str | None) -> float | None:
    value = None if column is None else raw[column]
    if value is None or value != value:  # pandas writes NaN for what was not measured
        return None
    try:
        rate = float(value)
    except (TypeError, ValueError):
        rate = -1.0
    if not 0 <= rate <= 1:
        raise DataError(f"{where}: {column} must be a pass rate in 0..1, got {value!r}")
    return rate
