"""Whether a data set can be trained on with these settings, found out before any GPU waits."""

from __future__ import annotations

import asyncio
from itertools import chain
from pathlib import Path

import pyarrow.parquet as pq

from ...errors import DataError
from ..dataset.rows import load_samples
from ..router.open_world import check_world, open_world
from ..router.settings import RouterTraining
from .settings import VerlSettings

FILES = ("train.parquet", "validation.parquet")


def check_data(folder: Path, settings: VerlSettings) -> None:
    """Raises DataError where a file is missing, there are too few rows for a step, or a prompt is too long."""
    for name in FILES:
        path = folder / name
        if not path.is_file():
            raise DataError(
                f"{path} is missing: `xrouter dataset build` writes it where validation_share > 0"
            )
        longest = 0
        file = pq.ParquetFile(path)
        for batch in file.iter_batches(columns=["extra_info.prompt_tokens"]):
            tokens = [row["extra_info"]["prompt_tokens"] for row in batch.to_pylist()]
            longest = max([longest, *tokens])
        if longest > settings.max_prompt_tokens:
            raise DataError(
                f"{path}: a prompt has {longest} tokens, more than verl.max_prompt_tokens = {settings.max_prompt_tokens}"
            )
        rows_there = file.metadata.num_rows
        if name.startswith("train") and rows_there < settings.prompts:
            raise DataError(
                f"{path} has {rows_there} samples, fewer than a step takes (verl.prompts = {settings.prompts})"
            )


def check_answers(training: RouterTraining) -> None:
    """Raises as `check_world` does where the world cannot answer what the data asks."""
    world = open_world(training.world)
    try:
        check_world(world, chain.from_iterable(load_samples(training.data / name) for name in FILES))
    finally:
        asyncio.run(world.aclose())
