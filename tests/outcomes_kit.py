"""Synthetic recorded outcomes with a known structure, as tables and as the folder of parquet files.

Two topics. On sums `small-sums` is right, on poems `small-poems` is; `large` is right on both but for every tenth
query, at a hundred times the cost; `weak` is always wrong. Right answers of a query are equal, wrong ones differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xrouter.catalog.model import Model
from xrouter.catalog.price import Price, Rates
from xrouter.policies.states import States
from xrouter.tasks.outcomes import Outcomes, load_outcomes

Tables = dict[str, dict[str, list[Any]]]

MODELS = {"small-sums": 0.1, "small-poems": 0.12, "weak": 0.05, "large": 10.0}
"""USD per million output tokens; input costs a fourth of it. Every answer is 100 tokens, every prompt 40."""
WORDS = {
    "sums": "add the numbers {0} and {1} then give their total",
    "poems": "write a verse that rhymes with word{0} word{1}",
}


def synthetic_tables(train: int = 120, test: int = 30) -> Tables:
    tables: Tables = {
        "queries": {name: [] for name in ("query_id", "dataset", "split", "prompt", "reference", "meta")},
        "outcomes": {
            name: []
            for name in (
                "query_id",
                "model",
                "score",
                "prompt_tokens",
                "completion_tokens",
                "cost_usd",
                "answer",
            )
        },
        "models": {
            "model": list(MODELS),
            "provider": ["kit"] * len(MODELS),
            "usd_per_mtok_in": [usd / 4 for usd in MODELS.values()],
            "usd_per_mtok_out": list(MODELS.values()),
            "core": [True] * len(MODELS),
        },
    }
    for i in range(train + test):
        topic = "sums" if i % 2 == 0 else "poems"
        row = (
            f"q{i}",
            f"kit/{topic}",
            "train" if i < train else "test",
            WORDS[topic].format(i, i * 7),
            f"r{i}",
            None,
        )
        for column, value in zip(tables["queries"].values(), row, strict=True):
            column.append(value)
        for model, usd in MODELS.items():
            right = (model == "large" and i % 10 != 9) or model == f"small-{topic}"
            answer = f"r{i}" if right else f"w{i}-{model}"
            cost = (40 * usd / 4 + 100 * usd) / 1e6
            row = (f"q{i}", model, float(right), 40, 100, cost, answer)
            for column, value in zip(tables["outcomes"].values(), row, strict=True):
                column.append(value)
    return tables


def write_tables(tables: Tables, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    return folder


def synthetic_outcomes(folder: Path, tables: Tables | None = None) -> Outcomes:
    return load_outcomes(write_tables(tables or synthetic_tables(), folder))


def zero_scores(tables: Tables, split: str) -> Tables:
    """The same tables with the score of every outcome of one split set to 0."""
    of_query = dict(zip(tables["queries"]["query_id"], tables["queries"]["split"], strict=True))
    outcomes = dict(tables["outcomes"])
    outcomes["score"] = [
        0.0 if of_query[query] == split else score
        for query, score in zip(outcomes["query_id"], outcomes["score"], strict=True)
    ]
    return {**tables, "outcomes": outcomes}


def kit_model(name: str, usd_out: float) -> Model:
    from datetime import date
    from decimal import Decimal

    price = Price(Rates(Decimal(str(usd_out / 4)), Decimal(str(usd_out))), date(2026, 1, 1), "test")
    return Model(name, "kit", name, "budget", price, 100_000, 4_000)


def kit_states(
    prices: Mapping[str, float],
    *,
    turns_left: int = 3,
    cost_weight: float = 0.0,
    target_quality: float = np.nan,
    **masks: Any,
) -> States:
    """One state. `allowed`, `responded`, `failed`: names; `answers`: name -> class."""
    names = list(prices)

    def mask(key: str, default: list[str]) -> np.ndarray:
        wanted = masks.get(key, default)
        return np.array([[name in wanted for name in names]])

    responded, failed = mask("responded", []), mask("failed", [])
    answers = masks.get("answers", {})
    return States(
        models=tuple(kit_model(name, usd) for name, usd in prices.items()),
        cost_weight_B=np.array([cost_weight]),
        target_quality_B=np.array([target_quality]),
        turns_left_B=np.array([turns_left]),
        money_left_B=np.array([np.inf]),
        prompt_tokens_B=np.array([40.0]),
        allowed_BM=mask("allowed", names) & ~responded & ~failed,
        responded_BM=responded,
        failed_BM=failed,
        answer_BM=np.array([[answers.get(name, -1) for name in names]]),
        tokens_BM=np.zeros((1, len(names))),
        cost_BM=np.zeros((1, len(names))),
    )
