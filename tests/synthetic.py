"""Made-up recorded outcomes with something to learn in them, as objects, as files, and as a pool that replays them.

Three topics with words of their own; each model is better at some topics; dearer models are better on the whole;
right answers agree and wrong ones scatter.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xrouter.catalog.model import Model
from xrouter.catalog.price import Price, Rates
from xrouter.messages import Usage
from xrouter.providers.pool import Pool
from xrouter.tasks.outcomes import Outcomes, Recording
from xrouter.tasks.recorded_world import RecordedWorld

TOPICS = (
    ["triangle", "integer", "prime", "divisor", "polygon", "radius", "fraction", "equation"],
    ["treaty", "emperor", "dynasty", "parliament", "colony", "revolution", "cathedral", "senate"],
    ["enzyme", "neuron", "membrane", "protein", "genome", "bacteria", "vaccine", "tissue"],
)
FILLER = ["please", "explain", "which", "of", "these", "is", "true", "and", "give", "the", "answer"]
WRONG_ANSWERS = 7


def synthetic_models(count: int) -> tuple[Model, ...]:
    """Output prices from 0.10 to 20 USD per million tokens; input costs a quarter."""
    usd_out = np.round(np.geomspace(0.1, 20.0, count), 4)
    return tuple(
        Model(
            name=f"model-{i}",
            provider="replay",
            id=f"model-{i}",
            tier="standard",
            price=Price(
                Rates(Decimal(str(round(float(usd) / 4, 6))), Decimal(str(float(usd)))),
                date(1970, 1, 1),
                "made up",
            ),
            context_window=1_000_000,
            max_output_tokens=100_000,
        )
        for i, usd in enumerate(usd_out)
    )


def synthetic_outcomes(seed: int = 0, queries: int = 120, models: int = 5) -> Outcomes:
    """Every model asked every query; a fifth of the queries are the test split. Costs are exactly Price.cost."""
    rng = np.random.default_rng(seed)
    pool = synthetic_models(models)
    topic_Q = rng.integers(0, len(TOPICS), queries)
    hardness_Q = rng.uniform(-0.25, 0.25, queries)
    skill_MT = np.linspace(0.4, 0.85, models)[:, None] + rng.uniform(-0.25, 0.25, (models, len(TOPICS)))
    chance_QM = np.clip(skill_MT[:, topic_Q].T - hardness_Q[:, None], 0.03, 0.97)
    right_QM = rng.random((queries, models)) < chance_QM
    wrong_QM = rng.integers(1, 1 + WRONG_ANSWERS, (queries, models))
    silent_QM = ~right_QM & (rng.random((queries, models)) < 0.1)
    length_Q = np.array([150, 300, 600])[topic_Q] * rng.uniform(0.7, 1.4, queries)
    tokens_QM = np.maximum(length_Q[:, None] * rng.uniform(0.6, 1.6, models), 1).astype(np.int64)
    prompts = tuple(_prompt(i, TOPICS[topic], rng) for i, topic in enumerate(topic_Q))
    prompt_tokens_QM = np.tile([[len(prompt) // 4 + 7] for prompt in prompts], (1, models))
    answer_QM, answers = _classes(np.where(silent_QM, -1, np.where(right_QM, 0, wrong_QM)))
    cost_QM = np.array(
        [
            [
                float(model.price.cost(Usage(int(n_in), int(n_out))))
                for model, n_in, n_out in zip(pool, *row, strict=True)
            ]
            for row in zip(prompt_tokens_QM, tokens_QM, strict=True)
        ]
    )
    return Outcomes(
        name=f"synthetic-{seed}",
        query_ids=tuple(f"q{i}" for i in range(queries)),
        datasets=tuple(("made/up/geometry", "made/up/history", "made/up/biology")[t] for t in topic_Q),
        splits=tuple("test" if i % 5 == 4 else "train" for i in range(queries)),
        core=tuple(i != models - 1 or models == 1 for i in range(models)),
        recording=Recording(
            prompts=prompts,
            models=pool,
            present_QM=np.ones((queries, models), bool),
            cost_QM=cost_QM,
            prompt_tokens_QM=prompt_tokens_QM,
            tokens_QM=tokens_QM,
            answer_QM=answer_QM,
            answers=answers,
        ),
        score_QM=right_QM.astype(np.float64),
    )


def _prompt(number: int, words: list[str], rng: np.random.Generator) -> str:
    said = [*rng.choice(words, 6), *rng.choice(FILLER, rng.integers(2, 9))]
    rng.shuffle(said)
    return f"Question {number}: {' '.join(said)}?"


def _classes(raw_QM: np.ndarray) -> tuple[np.ndarray, tuple[tuple[str, ...], ...]]:
    """Classes numbered in order of appearance, -1 kept, and the strings behind them ("a0" is the right one)."""
    answer_QM = np.full(raw_QM.shape, -1, np.int64)
    answers = []
    for q, row in enumerate(raw_QM.tolist()):
        seen: dict[int, int] = {}
        for m, raw in enumerate(row):
            if raw >= 0:
                answer_QM[q, m] = seen.setdefault(raw, len(seen))
        answers.append(tuple(f"a{raw}" for raw in seen))
    return answer_QM, tuple(answers)


def tables(outcomes: Outcomes) -> dict[str, list[dict[str, object]]]:
    """The rows of queries, outcomes and models.parquet; change them before `write_tables` to break them."""
    record = outcomes.recording
    asked = np.argwhere(record.present_QM).tolist()
    return {
        "queries": [
            {"query_id": query, "dataset": dataset, "split": split, "prompt": prompt}
            for query, dataset, split, prompt in zip(
                outcomes.query_ids, outcomes.datasets, outcomes.splits, record.prompts, strict=True
            )
        ],
        "outcomes": [
            {
                "query_id": outcomes.query_ids[q],
                "model": outcomes.model_names[m],
                "score": float(outcomes.score_QM[q, m]),
                "prompt_tokens": int(record.prompt_tokens_QM[q, m]),
                "completion_tokens": int(record.tokens_QM[q, m]),
                "cost_usd": float(record.cost_QM[q, m]),
                "answer": _answer(record, q, m),
            }
            for q, m in asked
        ],
        "models": [
            {
                "model": model.name,
                "provider": model.provider,
                "usd_per_mtok_in": float(model.price.rates.input),
                "usd_per_mtok_out": float(model.price.rates.output),
                "core": core,
            }
            for model, core in zip(outcomes.models, outcomes.core, strict=True)
        ],
    }


def write_tables(folder: Path, rows: dict[str, list[dict[str, object]]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in rows.items():
        pq.write_table(pa.Table.from_pylist(table), folder / f"{name}.parquet")
    return folder


def write_outcomes(folder: Path, outcomes: Outcomes) -> Path:
    """The three files that `load_outcomes` reads."""
    return write_tables(folder, tables(outcomes))


def replaying_pool(outcomes: Outcomes) -> Pool:
    """The pool whose models say again what they said."""
    return RecordedWorld(outcomes).pool(outcomes.model_names)


def _answer(record: Recording, q: int, m: int) -> str | None:
    return None if record.answer_QM[q, m] < 0 else record.answers[q][record.answer_QM[q, m]]
