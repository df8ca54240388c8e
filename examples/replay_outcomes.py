"""Makes up a small set of recorded outcomes, learns a policy from it and judges it. No model is called.

The same from the shell: `xrouter train --outcomes DIR --out RUN`, then `xrouter evaluate --outcomes DIR
--policy RUN --out REPORT`. Needs `pip install 'xrouter[train]'`; takes some ten seconds.
"""

from __future__ import annotations

import math
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from xrouter.evaluation.evaluate import evaluate
from xrouter.policies.checkpoint import load_network
from xrouter.tasks.outcomes import load_outcomes
from xrouter.training.config import TrainingConfig
from xrouter.training.run import Run

MODELS: dict[str, dict[str, float]] = {
    "tiny": {"price": 0.1, "sum": 0.55, "lookup": 0.9},
    "small": {"price": 0.4, "sum": 0.7, "lookup": 0.85},
    "large": {"price": 8.0, "sum": 0.95, "lookup": 0.95},
}
"""Output price in USD per million tokens, and the chance of a right answer to each kind of question."""


def question(kind: str, dice: random.Random) -> tuple[str, str]:
    a, b = dice.randint(100, 999), dice.randint(100, 999)
    if kind == "sum":
        return f"A shop sells {a} apples and {b} pears. How many pieces of fruit is that?", str(a + b)
    return f"Look at the list: {a}, {b}. Which number is written first?", str(a)


def make_outcomes(folder: Path, queries: int = 500) -> None:
    """The three files that docs/outcomes.md describes, with the columns that are required."""
    dice = random.Random(0)
    asked: list[dict[str, Any]] = []
    answered: list[dict[str, Any]] = []
    for i in range(queries):
        kind = "sum" if i % 2 else "lookup"
        prompt, reference = question(kind, dice)
        split = "test" if i % 5 == 0 else "train"
        asked.append({"query_id": f"q{i}", "dataset": f"demo/{kind}", "split": split, "prompt": prompt})
        for name, facts in MODELS.items():
            right = dice.random() < facts[kind]
            tokens = dice.randint(40, 160)
            answered.append(
                {
                    "query_id": f"q{i}",
                    "model": name,
                    "score": float(right),
                    "prompt_tokens": 25,
                    "completion_tokens": tokens,
                    "cost_usd": (25 * facts["price"] / 4 + tokens * facts["price"]) / 1e6,
                    "answer": reference if right else str(int(reference) + dice.choice((-10, -1, 1, 10))),
                }
            )
    models = [
        {
            "model": name,
            "provider": "made-up",
            "usd_per_mtok_in": facts["price"] / 4,
            "usd_per_mtok_out": facts["price"],
        }
        for name, facts in MODELS.items()
    ]
    for name, rows in (("queries", asked), ("outcomes", answered), ("models", models)):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


def main(folder: Path) -> None:
    make_outcomes(folder)
    outcomes = load_outcomes(folder)
    train = outcomes.split("train")
    torch.set_num_threads(1)  # batches this small gain nothing from more
    # Far fewer steps than the defaults, and a text encoder to match so few prompts.
    config = TrainingConfig(
        warm_steps=40, dapo_steps=5, warm_batch=128, groups=16, evaluate_every=15, dimensions=32, landmarks=64
    )

    def on_step(metrics: dict[str, Any]) -> None:
        if "validation_reward" in metrics:
            print(
                f"step {metrics['step']}, {metrics['phase']}: validation reward {metrics['validation_reward']:.3f}"
            )

    checkpoint = Run(folder / "run", [train], config).train(on_step)

    judged = evaluate(outcomes, policies={"learned": load_network(checkpoint)}, train=train, bootstrap=100)
    print(f"{judged.setting.queries} test queries; best single model: {judged.setting.best}")
    for result in judged.results:
        summary = result.summary
        saving = summary.saving[98].value
        print(
            f"{result.name:14} max score {summary.max_score.value:.3f}   area {summary.area.value:.3f}"
            f"   save@98 {'none' if math.isnan(saving) else format(saving, '.0%')}"
        )
    print(f"serve it: xrouter serve --policy {checkpoint}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
