"""The experiment on system prompts: what is asked, what is chosen, how arms are compared."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.prompts.__main__ import report, run
from benchmarks.prompts.questions import Questions, chosen, judging, questions, recorded, writing
from benchmarks.prompts.table import Measured, measured
from xrouter.tasks.journal import Journal, Row

PLAN: dict[str, Any] = {
    "seed": 1,
    "max_output_tokens": 64,
    "choosing": 2,
    "writer": {"max_tokens": 9, "prompt": "Write a system prompt."},
    "arms": {
        "none": {},
        "generic": {"prompt": "Be helpful."},
        "written": {"from": "kind"},
        "model-written": {"from": "writer"},
        "sampled": {"temperature": 0.7},
    },
    "kinds": {
        "sums": {"tasks": "arithmetic:expression", "written": ["Step by step.", "The number alone."]},
        "facts": {"tasks": "trivial:fact", "written": ["Briefly."]},
        "choices": {"outcomes": ["a", "b"], "datasets": ["x/"], "grader": "choice", "seed": "s", "longest": 9,
                    "written": ["The letter."]},
    },
}  # fmt: skip


def row(id_: str, text: str, tokens: int = 5, model: str = "m") -> Row:
    return Row(id_, model, Decimal("0.001"), 10, tokens, text=text)


def rows_of(*rows: Row) -> dict[tuple[str, str], Row]:
    return {each.key: each for each in rows}


def test_questions_are_judged_in_turn_and_chosen_on_others() -> None:
    found = questions(PLAN, 3, None)
    assert [q.kind for q in found.judged] == ["sums", "facts"] * 3
    assert [q.kind for q in found.choosing] == ["sums", "sums", "facts", "facts"]
    assert not {q.task.id for q in found.judged} & {q.task.id for q in found.choosing}
    assert questions(PLAN, 3, None) == found


def test_recorded_questions_are_short_and_of_the_train_split(tmp_path: Path) -> None:
    for name, count in (("a", 3), ("b", 1)):
        kept = [(f"{name}{i}", "x/y", "train", f"{name} {i}?", "A") for i in range(count)]
        others = [
            ("t", "x/y", "test", "t?", "A"),
            ("l", "x/y", "train", "a long one?", "A"),
            ("z", "z/", "train", "z?", "A"),
        ]
        columns = ("query_id", "dataset", "split", "prompt", "reference")
        (tmp_path / name).mkdir()
        table = pa.Table.from_pylist([dict(zip(columns, values, strict=True)) for values in kept + others])
        pq.write_table(table, tmp_path / name / "queries.parquet")
    drawn = recorded(tmp_path, PLAN["kinds"]["choices"])
    assert sorted(task.request.query[0] for task in drawn) == ["a", "b"]


def test_the_written_prompt_is_the_better_and_then_the_shorter_one() -> None:
    found = questions(PLAN, 1, None)
    sums = [q for q in found.choosing if q.kind == "sums"]
    facts = [row(q.id_in("try0"), "?") for q in found.choosing if q.kind == "facts"]

    def choose(first: list[str], second: list[str], tokens: int = 5) -> str:
        tried = [row(q.id_in("try0"), text) for q, text in zip(sums, first, strict=True)]
        tried += [row(q.id_in("try1"), text, tokens) for q, text in zip(sums, second, strict=True)]
        return chosen(PLAN, found, rows_of(*tried, *facts), "m")["sums"]

    right = [q.task.reference for q in sums]
    assert choose(right, ["no", "no"]) == "Step by step."
    assert choose(["no", "no"], right) == "The number alone."
    assert choose(right, right, tokens=4) == "The number alone."
    assert choose(right, right, tokens=6) == "Step by step."


def test_each_arm_differs_in_its_prompt_or_temperature_alone() -> None:
    (question, *_) = questions(PLAN, 1, None).judged
    (asked,) = writing(PLAN, [question])
    assert asked.request.params["max_tokens"] == 9
    rows = rows_of(row(asked.id, " Be exact.\n", model="w"))
    tasks = list(judging(PLAN, [question], rows, "w", {"sums": "The number alone."}))
    prompts = [
        task.request.messages[0]["content"] if len(task.request.messages) > 1 else None for task in tasks
    ]
    assert prompts == [None, "Be helpful.", "The number alone.", "Be exact.", None]
    assert [task.request.params["temperature"] for task in tasks] == [0, 0, 0, 0, 0.7]
    assert {task.request.messages[-1]["content"] for task in tasks} == {question.task.request.query}
    assert len({task.id for task in tasks}) == len(tasks)


def test_arms_are_compared_question_by_question() -> None:
    found = questions(PLAN, 2, None)
    rows = []
    for i, question in enumerate(found.judged):
        for arm in PLAN["arms"]:
            text = "no" if arm == "none" else question.task.reference.split("|")[0]
            if i or arm == "none":  # the first question is not answered in every arm
                rows.append(row(question.id_in(arm), text, 64 if arm == "none" else 4))
    told, *_ = reversed(found.judged)
    rows.append(row(told.id_in("write"), told.task.reference.split("|")[0], model="w"))
    results = measured(PLAN, found, rows_of(*rows), ["m"], "w")
    assert [(each.kind, len(each.values["none"]["score"])) for each in results] == [
        ("sums", 1),
        ("facts", 2),
        ("all", 3),
        ("untold", 2),
    ]
    everything = results[-2]
    assert everything.mean("none", "score").value == 0
    gain = everything.difference("written", "none", "score")
    assert (gain.value, gain.low, gain.high) == (1, 1, 1)
    assert everything.difference("written", "none", "cut").value == -1
    assert everything.difference("written", "none", "output tokens").value == -60


def test_an_interval_holds_its_difference() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(200)
    values = {"none": {"score": base}, "arm": {"score": base + rng.normal(0.1, 0.05, 200)}}
    gain = Measured("m", "all", values).difference("arm", "none", "score")
    assert 0.08 < gain.low < gain.value < gain.high < 0.12


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    options = Namespace(
        config=None, models=["sim-small", "sim-large"], writer="sim-small", outcomes=None, questions=2, minutes=0.0,
        block=2, concurrency=8, max_cost_usd="1.00", base="none", out=tmp_path,
    )  # fmt: skip
    found: Questions = questions(PLAN, options.questions, None)

    def journal() -> list[Row]:
        with Journal(tmp_path / "journal.jsonl", resume=True) as opened:
            return opened.rows

    asyncio.run(run(options, PLAN, found))
    per_model = len(found.judged) * len(PLAN["arms"])
    first = journal()
    assert 0 < sum("#try" not in r.query_id and "#write" not in r.query_id for r in first) < per_model
    options.minutes = 5.0
    asyncio.run(run(options, PLAN, found))
    rows = journal()
    assert rows[: len(first)] == first
    assert len({r.key for r in rows}) == len(rows) == 2 * (per_model + 6) + len(found.judged)
    shown = report(options, PLAN, found, rows_of(*rows))
    assert "| sim-large | all | 4 | written | " in shown
    assert "sim-small wrote 4 prompts" in shown
