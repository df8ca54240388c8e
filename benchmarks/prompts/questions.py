"""The questions of the plan, and what they look like when they are asked in one of its arms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq

from xrouter.tasks.graders import grade
from xrouter.tasks.journal import Row
from xrouter.tasks.sources import load_tasks
from xrouter.tasks.task import Task

Rows = Mapping[tuple[str, str], Row]
"""Answers by the id of what was asked and the model."""


@dataclass(frozen=True)
class Question:
    kind: str
    task: Task

    def id_in(self, arm: str) -> str:
        return f"{self.task.id}#{arm}"

    def asked(self, arm: str, prompt: str | None, temperature: float, seed: int) -> Task:
        request = self.task.request if prompt is None else self.task.request.with_system_prompt(prompt)
        return replace(
            self.task, id=self.id_in(arm), request=request.with_params(temperature=temperature, seed=seed)
        )


@dataclass(frozen=True)
class Questions:
    """choosing: where the `written` prompt of a kind is chosen. judged: others, the kinds in turn, so that any first part
    of them holds each kind alike."""

    choosing: tuple[Question, ...]
    judged: tuple[Question, ...]


def questions(plan: Mapping[str, Any], count: int, outcomes: Path | None) -> Questions:
    """`count` judged questions of each kind, and `plan["choosing"]` others; without outcomes no kinds that need them."""
    first = plan["choosing"]
    drawn: list[list[Question]] = []
    for name, kind in plan["kinds"].items():
        if "tasks" in kind:
            tasks = load_tasks(kind["tasks"], first + count, plan["seed"])
        elif outcomes is not None:
            tasks = recorded(outcomes, kind)
        else:
            continue
        Random(f"{plan['seed']} {name}").shuffle(tasks)
        drawn.append([Question(name, task) for task in tasks[: first + count]])
    return Questions(
        tuple(question for kind in drawn for question in kind[:first]),
        tuple(kind[i] for i in range(first, first + count) for kind in drawn if i < len(kind)),
    )


def recorded(folder: Path, kind: Mapping[str, Any]) -> list[Task]:
    """Short questions of the train split, as many of each set of outcomes."""
    sets = []
    for name in kind["outcomes"]:
        rows = pq.read_table(folder / name / "queries.parquet").sort_by("query_id").to_pylist()
        sets.append(
            [
                Task.of(row["dataset"], row["prompt"], kind["grader"], row["reference"])
                for row in rows
                if row["split"] == "train"
                and row["dataset"].startswith(tuple(kind["datasets"]))
                and len(row["prompt"]) <= kind["longest"]
            ]
        )
    fewest = min(map(len, sets))
    return [task for tasks in sets for task in Random(kind["seed"]).sample(tasks, fewest)]


def choosing(plan: Mapping[str, Any], found: Questions) -> Iterator[Task]:
    for question in found.choosing:
        for number, prompt in enumerate(plan["kinds"][question.kind]["written"]):
            yield question.asked(f"try{number}", prompt, 0.0, plan["seed"])


def chosen(plan: Mapping[str, Any], found: Questions, rows: Rows, model: str) -> dict[str, str]:
    """Of each kind the `written` prompt with the best score on the choosing questions; of equals the shorter answers."""
    best: dict[str, str] = {}
    for name, kind in plan["kinds"].items():
        of_kind = [question for question in found.choosing if question.kind == name]
        worth = {}
        for number, prompt in enumerate(kind["written"]):
            answers = [(question.task, rows[question.id_in(f"try{number}"), model]) for question in of_kind]
            tokens = sum(row.completion_tokens for _, row in answers)
            worth[prompt] = (sum(grade(task, row.text) for task, row in answers), -tokens)
        if of_kind:
            best[name] = max(worth, key=lambda prompt: worth[prompt])
    return best


def writing(plan: Mapping[str, Any], block: Sequence[Question]) -> Iterator[Task]:
    """What the writer is asked: a system prompt for each question."""
    writer = plan["writer"]
    for question in block:
        task = question.asked("write", writer["prompt"], 0.0, plan["seed"])
        yield replace(task, request=task.request.with_params(max_tokens=writer["max_tokens"]))


def judging(
    plan: Mapping[str, Any], block: Sequence[Question], rows: Rows, writer: str, of_kind: Mapping[str, str]
) -> Iterator[Task]:
    for question in block:
        for name, arm in plan["arms"].items():
            prompt = arm.get("prompt")
            if arm.get("from") == "kind":
                prompt = of_kind[question.kind]
            elif arm.get("from") == "writer":
                prompt = rows[question.id_in("write"), writer].text.strip()
            yield question.asked(name, prompt, arm.get("temperature", 0.0), plan["seed"])
