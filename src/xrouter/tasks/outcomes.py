"""Recorded outcomes: what real models answered to real questions, whether they were right, what it cost.

Axes: Q queries, M models.

The folder holds queries.parquet, outcomes.parquet and models.parquet. `Recording` is the part a policy may
learn of by calling; scores are kept beside it in `Outcomes`, so that what replays never holds the answer key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..catalog.model import Model, TierName
from ..catalog.price import Price, Rates
from ..episodes.call_answers import answer_where_offered, describes_functions
from ..errors import DataError

Split = Literal["train", "test"]

COLUMNS = {
    "queries": ("query_id", "dataset", "split", "prompt"),
    "outcomes": ("query_id", "model", "score", "prompt_tokens", "completion_tokens", "cost_usd", "answer"),
    "models": ("model", "provider", "usd_per_mtok_in", "usd_per_mtok_out"),
}


@dataclass(frozen=True, eq=False)
class Recording:
    """What calling would show: answers, tokens and costs, never scores.

    answer_QM: class of equal answers within a query, -1 where the response held none.
    present_QM: False where the model was never asked; such a model cannot be called there.
    cost_QM: US dollars. tokens_QM: output tokens, hidden ones included. prompt_tokens_QM: 0 where not recorded.
    """

    prompts: tuple[str, ...]
    models: tuple[Model, ...]
    present_QM: NDArray[np.bool_]
    cost_QM: NDArray[np.float64]
    prompt_tokens_QM: NDArray[np.int64]
    tokens_QM: NDArray[np.int64]
    answer_QM: NDArray[np.int64]
    answers: tuple[tuple[str, ...], ...]
    """The answer strings behind the classes: answers[q][answer_QM[q, m]]."""

    def __len__(self) -> int:
        return len(self.prompts)

    def rows(self, index: NDArray[np.int64]) -> Recording:
        return replace(
            self,
            prompts=tuple(self.prompts[i] for i in index),
            answers=tuple(self.answers[i] for i in index),
            present_QM=self.present_QM[index],
            cost_QM=self.cost_QM[index],
            prompt_tokens_QM=self.prompt_tokens_QM[index],
            tokens_QM=self.tokens_QM[index],
            answer_QM=self.answer_QM[index],
        )

    def columns(self, index: NDArray[np.int64]) -> Recording:
        return replace(
            self,
            models=tuple(self.models[i] for i in index),
            present_QM=self.present_QM[:, index],
            cost_QM=self.cost_QM[:, index],
            prompt_tokens_QM=self.prompt_tokens_QM[:, index],
            tokens_QM=self.tokens_QM[:, index],
            answer_QM=self.answer_QM[:, index],
        )


@dataclass(frozen=True, eq=False)
class Outcomes:
    """A recording with its answer key. score_QM is 0..1, NaN where the model was never asked."""

    name: str
    query_ids: tuple[str, ...]
    datasets: tuple[str, ...]
    splits: tuple[str, ...]
    core: tuple[bool, ...]
    recording: Recording
    score_QM: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.query_ids)

    @property
    def models(self) -> tuple[Model, ...]:
        return self.recording.models

    @property
    def model_names(self) -> tuple[str, ...]:
        return tuple(model.name for model in self.recording.models)

    def rows(self, index: Sequence[int] | NDArray[np.int64]) -> Outcomes:
        """These queries only, in this order."""
        index = np.asarray(index, np.int64)
        return replace(
            self,
            query_ids=tuple(self.query_ids[i] for i in index),
            datasets=tuple(self.datasets[i] for i in index),
            splits=tuple(self.splits[i] for i in index),
            recording=self.recording.rows(index),
            score_QM=self.score_QM[index],
        )

    def scores_of(self, query_B: NDArray[np.int64], model_B: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score of handing over this model's answer to this query; 0 where the model is -1 (no answer)."""
        score_B = self.score_QM[query_B, np.maximum(model_B, 0)]
        return np.where(model_B >= 0, np.nan_to_num(score_B), 0.0)

    def split(self, split: Split) -> Outcomes:
        """Raises DataError when the split holds no query."""
        index = [i for i, value in enumerate(self.splits) if value == split]
        if not index:
            raise DataError(f"{self.name}: no query has split {split!r}; it has {sorted(set(self.splits))}")
        return self.rows(index)

    def datasets_named(self, prefixes: Sequence[str]) -> Outcomes:
        """Queries of the datasets whose name, or its part after the last '/', is one of these."""
        wanted = set(prefixes)
        index = [i for i, d in enumerate(self.datasets) if d in wanted or d.rsplit("/", 1)[-1] in wanted]
        if not index:
            raise DataError(
                f"{self.name}: no dataset is named {', '.join(prefixes)}; it has {sorted(set(self.datasets))}"
            )
        return self.rows(index)

    def pool(self, names: Sequence[str] | None = None) -> Outcomes:
        """These models only; None means the core pool. Raises DataError for a model that is not there, or no core."""
        if names is None:
            index = [i for i, core in enumerate(self.core) if core]
            if not index:
                raise DataError(f"{self.name}: no model is core; name some, or take them all")
        else:
            known = {name: i for i, name in enumerate(self.model_names)}
            missing = [name for name in names if name not in known]
            if missing:
                raise DataError(
                    f"{self.name}: no outcomes of {', '.join(missing)}; it has {', '.join(known)}"
                )
            index = [known[name] for name in names]
        return self.columns(np.asarray(index, np.int64))

    def columns(self, index: NDArray[np.int64]) -> Outcomes:
        """These models only, in this order."""
        return replace(
            self,
            core=tuple(self.core[i] for i in index),
            recording=self.recording.columns(index),
            score_QM=self.score_QM[:, index],
        )


def load_outcomes(folder: str | Path) -> Outcomes:
    """Reads a folder of recorded outcomes. Raises DataError naming the file and the column that does not fit."""
    folder = Path(folder)
    queries = _read(folder, "queries", ("reference",))
    rows = _read(folder, "outcomes", ())
    models = _read(folder, "models", ("core",))

    path = folder / "outcomes.parquet"
    query_index = _index(queries["query_id"], folder / "queries.parquet", "query_id")
    model_index = _index(models["model"], folder / "models.parquet", "model")
    try:
        q = np.array([query_index[value] for value in rows["query_id"]], np.int64)
        m = np.array([model_index[value] for value in rows["model"]], np.int64)
    except KeyError as error:
        raise DataError(f"{path}: {error.args[0]!r} is not in queries.parquet or models.parquet") from None

    shape = (len(query_index), len(model_index))
    pair, count = np.unique(q * shape[1] + m, return_counts=True)
    if (count > 1).any():
        i, j = divmod(int(pair[count > 1][0]), shape[1])
        raise DataError(
            f"{path}: two rows of model {models['model'][j]!r} and query {queries['query_id'][i]!r}; keep one"
        )
    cost = _floats(rows, "cost_usd", path)
    tokens = _floats(rows, "completion_tokens", path)
    prompt_tokens = np.nan_to_num(_floats(rows, "prompt_tokens", path))
    usable = ~np.isnan(cost) & ~np.isnan(tokens)
    q_used, m_used = q[usable], m[usable]
    answer_QM, answers = _answer_classes(rows["answer"], q, m, queries["prompt"], len(model_index))
    recording = Recording(
        prompts=tuple(queries["prompt"]),
        models=tuple(_models(models, folder / "models.parquet")),
        present_QM=_scatter(shape, q_used, m_used, np.ones(len(q_used), bool), False),
        cost_QM=_scatter(shape, q_used, m_used, cost[usable], 0.0),
        prompt_tokens_QM=_scatter(shape, q_used, m_used, prompt_tokens[usable].astype(np.int64), 0),
        tokens_QM=_scatter(shape, q_used, m_used, tokens[usable].astype(np.int64), 0),
        answer_QM=answer_QM,
        answers=answers,
    )
    return Outcomes(
        name=folder.name,
        query_ids=tuple(queries["query_id"]),
        datasets=tuple(queries["dataset"]),
        splits=tuple(queries["split"]),
        core=tuple(bool(v) for v in models.get("core") or [True] * len(model_index)),
        recording=recording,
        score_QM=_scatter(shape, q_used, m_used, _floats(rows, "score", path)[usable], np.nan),
    )


def union(sets: Sequence[Outcomes]) -> Outcomes:
    """All queries of all sets over all their models; a model is absent where its set never asked it.

    Models are told apart by name. Raises DataError when two sets price one name differently.
    """
    models: dict[str, Model] = {}
    for outcomes in sets:
        for model in outcomes.models:
            if models.setdefault(model.name, model).price != model.price:
                raise DataError(f"model {model.name!r} has two prices: one of them in {outcomes.name}")
    position = {name: i for i, name in enumerate(models)}

    def spread(array_QM: NDArray[Any], outcomes: Outcomes, fill: Any) -> NDArray[Any]:
        out = np.full((len(outcomes), len(models)), fill, array_QM.dtype)
        out[:, [position[name] for name in outcomes.model_names]] = array_QM
        return out

    def stacked(name: str, fill: Any) -> NDArray[Any]:
        return np.concatenate([spread(getattr(o.recording, name), o, fill) for o in sets])

    return Outcomes(
        name="+".join(outcomes.name for outcomes in sets),
        query_ids=tuple(value for o in sets for value in o.query_ids),
        datasets=tuple(value for o in sets for value in o.datasets),
        splits=tuple(value for o in sets for value in o.splits),
        core=(True,) * len(models),
        recording=Recording(
            prompts=tuple(value for o in sets for value in o.recording.prompts),
            models=tuple(models.values()),
            present_QM=stacked("present_QM", False),
            cost_QM=stacked("cost_QM", 0.0),
            prompt_tokens_QM=stacked("prompt_tokens_QM", 0),
            tokens_QM=stacked("tokens_QM", 0),
            answer_QM=stacked("answer_QM", -1),
            answers=tuple(value for o in sets for value in o.recording.answers),
        ),
        score_QM=np.concatenate([spread(o.score_QM, o, np.nan) for o in sets]),
    )


def _read(folder: Path, name: str, optional: tuple[str, ...]) -> dict[str, list[Any]]:
    path = folder / f"{name}.parquet"
    if not path.is_file():
        raise DataError(f"{path} is missing: an outcomes folder holds queries, outcomes and models.parquet")
    try:
        present = set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as parquet: {error}") from error
    missing = [column for column in COLUMNS[name] if column not in present]
    if missing:
        raise DataError(f"{path}: column {missing[0]!r} is missing; it has {', '.join(sorted(present))}")
    wanted = [*COLUMNS[name], *(column for column in optional if column in present)]
    table: dict[str, list[Any]] = pq.read_table(path, columns=wanted).to_pydict()
    if not table[wanted[0]]:
        raise DataError(f"{path} holds no rows")
    return table


def _index(values: list[str], path: Path, column: str) -> dict[str, int]:
    index = {value: i for i, value in enumerate(values)}
    if len(index) != len(values):
        repeated = next(value for i, value in enumerate(values) if index[value] != i)
        raise DataError(f"{path}: column {column!r} must be unique, but {repeated!r} is there twice")
    return index


def _floats(table: dict[str, list[Any]], column: str, path: Path) -> NDArray[np.float64]:
    """The column as numbers, NaN where it is null."""
    try:
        return np.array([np.nan if value is None else value for value in table[column]], np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: column {column!r} must hold numbers ({error})") from None


def _scatter(
    shape: tuple[int, int], q: NDArray[np.int64], m: NDArray[np.int64], values: NDArray[Any], fill: Any
) -> NDArray[Any]:
    out = np.full(shape, fill, values.dtype)
    out[q, m] = values
    return out


def _answer_classes(
    column: list[str | None], q: NDArray[np.int64], m: NDArray[np.int64], prompts: list[str], models: int
) -> tuple[NDArray[np.int64], tuple[tuple[str, ...], ...]]:
    """Equal strings are equal answers; where the prompt describes functions, equal calls are, however written.

    A class goes by the first of its answers in the file.
    """
    offered = [describes_functions(prompt) for prompt in prompts]
    normal = lru_cache(maxsize=None)(answer_where_offered)
    classes: list[dict[str, int]] = [{} for _ in prompts]
    answers: list[list[str]] = [[] for _ in prompts]
    answer_QM = np.full((len(prompts), models), -1, np.int64)
    for answer, i, j in zip(column, q.tolist(), m.tolist(), strict=True):
        if answer is None:
            continue
        number = classes[i].setdefault(normal(answer) if offered[i] else answer, len(answers[i]))
        if number == len(answers[i]):
            answers[i].append(answer)
        answer_QM[i, j] = number
    return answer_QM, tuple(map(tuple, answers))


def _models(table: dict[str, list[Any]], path: Path) -> list[Model]:
    prices = np.array([_floats(table, f"usd_per_mtok_{way}", path) for way in ("in", "out")])
    if np.isnan(prices).any():
        unpriced = table["model"][int(np.isnan(prices).any(0).argmax())]
        raise DataError(f"{path}: model {unpriced!r} has no price; unknown is not zero")
    return [
        Model(
            name=name,
            provider="replay",
            id=name,
            tier=_tier(float(usd_out)),
            price=Price(
                Rates(Decimal(str(usd_in)), Decimal(str(usd_out))), date(1970, 1, 1), "recorded outcomes"
            ),
            context_window=1_000_000,
            max_output_tokens=100_000,
            description=f"recorded outcomes of {name} ({provider})",
        )
        for name, provider, usd_in, usd_out in zip(
            table["model"],
            table["provider"],
            table["usd_per_mtok_in"],
            table["usd_per_mtok_out"],
            strict=True,
        )
    ]


def _tier(usd_per_mtok_out: float) -> TierName:
    if usd_per_mtok_out >= 8:
        return "premium"
    return "standard" if usd_per_mtok_out >= 0.7 else "budget"
