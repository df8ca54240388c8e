"""One row of the data, as verl and TRL read it, and its way back to a task.

The right answer is in `reward_model` and `extra_info`, never in `prompt`, `tools` or `tools_kwargs`. Columns whose keys
differ by row (schemas, the conversation, a task's further data) are JSON text: Arrow would fill them with nulls.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...episodes.actions import SELECT, tool_names
from ...episodes.episode import Preference
from ...errors import DataError
from ...messages import Request
from ...tasks.task import Task
from .bands import Taken
from .gather import plain_meta
from .pools import DrawnPool, names_of
from .prompts import FirstTurn

ROWS_AT_ONCE = 1_000
"""Rows of a row group: as many are held in memory."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A sample before it is written: a question in a band, with a pool and what its caller wants."""

    taken: Taken
    repetition: int
    split: str
    pool: DrawnPool
    preference: Preference


@dataclass(frozen=True, slots=True)
class Sample:
    """A row read back. pool: names, in the order of the tools. messages, tools: what the router reads first.

    pass_rate: 0..1 of the reference models; None = not measured. source, band, split: as in the card.
    """

    index: int
    task: Task
    messages: tuple[Mapping[str, str], ...]
    tools: tuple[Mapping[str, Any], ...]
    pool: tuple[str, ...]
    pool_name: str
    preference: Preference
    source: str
    band: str
    split: str
    repetition: int
    trivial: bool
    pass_rate: float | None
    prompt_tokens: int


def schema(tools: Sequence[str]) -> pa.Schema:
    """tools: names of all routing tools of the data set, so that `tools_kwargs` has one type in all rows."""
    kwargs = pa.struct([("create_kwargs", pa.struct([("model", pa.string()), ("offered", pa.bool_())]))])
    extra = pa.struct(
        [
            ("index", pa.int64()),
            ("split", pa.string()),
            ("question_id", pa.string()),
            ("source", pa.string()),
            ("repetition", pa.int64()),
            ("band", pa.string()),
            ("pass_rate", pa.float64()),
            ("trivial", pa.bool_()),
            ("pool_name", pa.string()),
            ("pool", pa.list_(pa.string())),
            ("request", pa.string()),
            ("grader", pa.string()),
            ("reference_answers", pa.list_(pa.string())),
            ("meta", pa.string()),
            ("cost_weight", pa.float64()),
            ("max_turns", pa.int64()),
            ("prompt_tokens", pa.int64()),
            ("need_tools_kwargs", pa.bool_()),
            ("tools_kwargs", pa.struct([(name, kwargs) for name in tools])),
        ]
    )
    return pa.schema(
        [
            ("data_source", pa.string()),
            ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
            ("tools", pa.string()),
            ("ability", pa.string()),
            ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
            ("extra_info", extra),
        ]
    )


def routing_tools(drafts: Iterable[Draft]) -> tuple[str, ...]:
    """Names of every routing tool of any of these pools, sorted; `select_response` last."""
    names = {name for draft in drafts for name in tool_names(draft.pool.models)}
    return (*sorted(names), SELECT)


def row_of(
    draft: Draft, index: int, first: FirstTurn, prompt_tokens: int, tools: Sequence[str]
) -> dict[str, Any]:
    question = draft.taken.question
    task, models = question.task, tool_names(draft.pool.models)
    return {
        "data_source": task.dataset,
        "prompt": list(first.messages),
        "tools": json.dumps(first.tools, ensure_ascii=False),
        "ability": question.ability,
        "reward_model": {"style": "rule", "ground_truth": task.reference},
        "extra_info": {
            "index": index,
            "split": draft.split,
            "question_id": task.id,
            "source": question.source,
            "repetition": draft.repetition,
            "band": draft.taken.band.name,
            "pass_rate": draft.taken.pass_rate,
            "trivial": question.trivial,
            "pool_name": draft.pool.name,
            "pool": names_of(draft.pool.models),
            "request": json.dumps(list(task.request.messages), ensure_ascii=False),
            "grader": task.grader,
            "reference_answers": [task.reference],
            "meta": json.dumps(plain_meta(task), ensure_ascii=False),
            "cost_weight": draft.preference.cost_weight,
            "max_turns": draft.preference.max_turns,
            "prompt_tokens": prompt_tokens,
            "need_tools_kwargs": True,
            "tools_kwargs": {
                name: {
                    "create_kwargs": {
                        "model": models.get(name, ""),
                        "offered": name in models or name == SELECT,
                    }
                }
                for name in tools
            },
        },
    }


def sample_of(row: Mapping[str, Any]) -> Sample:
    """A row, or the columns that a trainer hands on of it, as a sample. Raises DataError for rows of other data."""
    try:
        extra = row["extra_info"]
        messages = tuple(json.loads(extra["request"]))
        return Sample(
            index=int(extra["index"]),
            task=Task(
                id=extra["question_id"],
                dataset=row["data_source"],
                request=Request(messages),
                grader=extra["grader"],
                reference=row["reward_model"]["ground_truth"],
                meta=json.loads(extra["meta"]),
            ),
            messages=tuple(row["prompt"]),
            tools=tuple(json.loads(row["tools"])),
            pool=tuple(extra["pool"]),
            pool_name=extra["pool_name"],
            preference=Preference(cost_weight=extra["cost_weight"], max_turns=int(extra["max_turns"])),
            source=extra["source"],
            band=extra["band"],
            split=extra["split"],
            repetition=int(extra["repetition"]),
            trivial=bool(extra["trivial"]),
            pass_rate=extra["pass_rate"],
            prompt_tokens=int(extra["prompt_tokens"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"not a row of `xrouter dataset build`: {error!r}") from error


def load_samples(path: Path, limit: int | None = None) -> list[Sample]:
    """The first `limit` samples of a file, None = all. Raises DataError for a file that is none of ours."""
    try:
        file = pq.ParquetFile(path)
        samples: list[Sample] = []
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE if limit is None else max(1, limit)):
            samples += [sample_of(row) for row in batch.to_pylist()]
            if limit is not None and len(samples) >= limit:
                break
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as parquet: {error}") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return samples[:limit]


class Writer:
    """Writes rows to a parquet file in groups. The file has its name only once it is whole."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.count = 0
        self._schema = schema
        self._part = path.with_suffix(".part")
        self._file = pq.ParquetWriter(self._part, schema)
        self._waiting: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        self._waiting.append(row)
        self.count += 1
        if len(self._waiting) == ROWS_AT_ONCE:
            self._flush()

    def close(self, *, whole: bool) -> None:
        """Puts the file in its place where it is whole and has rows; otherwise it goes, an older one of that name too."""
        if whole and self._waiting:
            self._flush()
        self._file.close()
        if whole and self.count:
            self._part.replace(self.path)
        else:
            self._part.unlink()
            if whole:
                self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        self._file.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
        self._waiting = []
