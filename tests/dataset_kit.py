"""Sources for the data of a tool-calling router: questions, a recipe, a tiny parquet file in Reasoning360's columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from conftest import make_model

from xrouter.catalog.model import TIERS, Model
from xrouter.tasks.task import Task
from xrouter.toml_reader import Reader
from xrouter.training.dataset.question import Question
from xrouter.training.dataset.recipe import Recipe
from xrouter.training.dataset.recipe_file import read_recipe

MODELS: Mapping[str, Model] = {
    f"{tier}-{i}": make_model(f"{tier}-{i}", tier=tier, context_window=100_000)
    for tier in TIERS
    for i in range(4)
}


def recipe_of(**table: Any) -> Recipe:
    return read_recipe(Reader("recipe.toml", table))


def question(i: int, reference: str | None = None, **fields: Any) -> Question:
    task = Task.of("kit/numbers", f"Which number follows {i}?", "numeric", reference or str(i + 1))
    return Question(task, "kit", "counting", **fields)


def guru_row(source: str, prompt: object, truth: object, **more: object) -> dict[str, object]:
    """A row as Reasoning360 writes them."""
    return {
        "data_source": source,
        "prompt": prompt,
        "ability": source.partition("__")[0],
        "apply_chat_template": True,
        "reward_model": {"style": "rule", "ground_truth": truth},
        "extra_info": {"index": 0, "split": "train"},
        **more,
    }


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path
