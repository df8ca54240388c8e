"""Live worlds over the mock upstream, in this process and in others.

    python live_world_kit.py '{"base_url": ..., "path": ..., "usd": "0.01", "questions": [...]}'

asks each question of `small` and prints what came of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from xrouter.episodes.cost import output_limit, worst_cost
from xrouter.episodes.episode import Preference
from xrouter.errors import XRouterError
from xrouter.messages import Completion, Request
from xrouter.settings import Endpoint, Settings
from xrouter.tasks.live_world import LiveWorld
from xrouter.tasks.task import Task
from xrouter.training.dataset.rows import Sample

ONE_USD = Decimal("0.000025")
"""Of a call with the upstream's usual counts: 11 tokens in at 1 USD per million, 7 out at 2."""
TABLE: Mapping[str, Any] = {
    "provider": "mock",
    "tier": "standard",
    "context_window": 8192,
    "max_output_tokens": 1000,
    "price": {"input": "1", "output": "2", "dated": date(2026, 1, 1), "source": "tests"},
}


def live_settings(
    base_url: str, models: Mapping[str, Mapping[str, Any]] | None = None, **more: Any
) -> Settings:
    tables = models or {"small": {}, "big": {}}
    return Settings(
        pool=tuple(tables),
        endpoints={"mock": Endpoint(base_url=base_url)},
        models={name: {**TABLE, "id": f"{name}-id", **table} for name, table in tables.items()},
        **{"max_retries": 0, **more},
    )


def live_world(
    base_url: str,
    path: Path,
    usd: str = "1",
    *,
    models: Mapping[str, Mapping[str, Any]] | None = None,
    cache_samples: int = 1,
    max_output_tokens: int | None = None,
    **more: Any,
) -> LiveWorld:
    return LiveWorld(
        live_settings(base_url, models, **more),
        {},
        path,
        max_cost_usd=Decimal(usd),
        cache_samples=cache_samples,
        max_output_tokens=max_output_tokens,
    )


async def ask(world: LiveWorld, text: str, model: str = "small", **params: Any) -> Completion:
    pool = world.pool([model])
    return await pool.provider_of(pool[model]).complete(pool[model], Request.from_text(text, **params))


def worst_usd(world: LiveWorld, text: str, model: str = "small", **params: Any) -> Decimal:
    one, request = world.pool([model])[model], Request.from_text(text, **params)
    return worst_cost(one, request, output_limit(one, request))


def live_sample(index: int, question: str, reference: str = "42", *, max_turns: int = 1) -> Sample:
    task = Task.of("kit/live", question, "numeric", reference)
    return Sample(
        index,
        task,
        (),
        (),
        ("small", "big"),
        "all",
        Preference(cost_weight=0.1, max_turns=max_turns),
        "kit",
        "medium",
        "train",
        0,
        False,
        0.5,
        100,
    )


def start(
    base_url: str, path: Path, usd: str, questions: Sequence[str], **more: Any
) -> subprocess.Popen[str]:
    """Another process that asks these questions."""
    asked = {"base_url": base_url, "path": str(path), "usd": usd, "questions": questions, **more}
    paths = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(
        [sys.executable, __file__, json.dumps(asked)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """answers: by question; errors: class names, by question."""
    out, _ = process.communicate(timeout=60)
    found: dict[str, Any] = json.loads(out)
    return found


async def _main(base_url: str, path: str, usd: str, questions: Sequence[str], **more: Any) -> dict[str, Any]:
    world = live_world(base_url, Path(path), usd, **more)
    answers: dict[str, str] = {}
    errors: dict[str, str] = {}

    async def one(question: str) -> None:
        try:
            answers[question] = (await ask(world, question)).text
        except XRouterError as error:
            errors[question] = type(error).__name__

    await asyncio.gather(*(one(question) for question in questions))
    figures = world.figures()
    await world.aclose()
    return {"answers": answers, "errors": errors, "figures": figures}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_main(**json.loads(sys.argv[1])))))
