"""Reads every source of a recipe: each question once, none that any test split holds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ...catalog.model import Model
from ...errors import ConfigurationError, DataError
from ...messages import Request
from ...tasks.answer_key import grader_in
from ...tasks.graders import grade
from ...tasks.guru import read_table
from ...tasks.outcomes import Outcomes, load_outcomes, union
from ...tasks.sources import load_tasks
from ...tasks.task import Task
from .question import Question, question_key
from .recipe import Recipe, SourceRecipe

DUPLICATE = "the same question was there already"
IN_A_TEST_SPLIT = "the question is in the test split of recorded outcomes"
NO_GRADER = "no grader for it (see `graders` of a source)"
NO_REFERENCE = "no right answer is recorded"
NOT_REBUILT = "its grader cannot be rebuilt from what a file can hold"


@dataclass(frozen=True)
class Gathered:
    """questions: each with a different key, in the order of the sources. left_out: why -> how many.

    recorded: models of the outcome folders by name. recorded_rates: key of a question -> mean score of the reference
    models on record.
    """

    questions: tuple[Question, ...]
    left_out: Mapping[str, int]
    recorded: Mapping[str, Model] = field(default_factory=dict)
    recorded_rates: Mapping[str, float] = field(default_factory=dict)


def gather(recipe: Recipe) -> Gathered:
    """Raises ConfigurationError where there is no source or one cannot be read, DataError for what does not fit."""
    if not recipe.sources:
        raise ConfigurationError(
            "there is no source of questions: add [[sources]] to the recipe, or --source or --outcomes",
            param="sources",
        )
    folders = [source.outcomes for source in recipe.sources if source.outcomes is not None]
    outcomes = {folder: load_outcomes(folder) for folder in dict.fromkeys(folders)}
    held_out = {
        question_key(Request.from_text(prompt))
        for one in outcomes.values()
        for prompt, split in zip(one.recording.prompts, one.splits, strict=True)
        if split == "test"
    }
    left_out: Counter[str] = Counter()
    kept: dict[str, Question] = {}
    for source in recipe.sources:
        taken = 0
        for question in _questions(source, recipe.seed, outcomes, left_out):
            if taken == source.n:
                break
            key = question.key
            if key in held_out:
                left_out[IN_A_TEST_SPLIT] += 1
            elif key in kept:
                left_out[DUPLICATE] += 1
            elif not _survives(question.task):
                left_out[NOT_REBUILT] += 1
            else:
                kept[key] = question
                taken += 1
    models = {model.name: model for model in union(tuple(outcomes.values())).models} if outcomes else {}
    rates: dict[str, float] = {}
    for one in outcomes.values():
        rates |= _rates(one, recipe.reference.models)
    return Gathered(tuple(kept.values()), dict(sorted(left_out.items())), models, rates)


def _questions(
    source: SourceRecipe, seed: int, outcomes: Mapping[str, Outcomes], left_out: Counter[str]
) -> Iterator[Question]:
    trivial = source.for_direct_answers
    if source.outcomes is not None:
        yield from _recorded(source, outcomes[source.outcomes], left_out)
        return
    assert source.tasks is not None
    if source.tasks.endswith(".parquet"):
        table = read_table(
            Path(source.tasks), graders=source.graders, pass_rate_column=source.pass_rate_column
        )
        left_out[NO_GRADER] += sum(table.left_out.values())
        for row in table.rows:
            yield Question(row.task, source.name, row.ability, trivial, row.pass_rate)
        return
    for task in load_tasks(source.tasks, source.n, seed):
        yield Question(task, source.name, task.dataset.partition("/")[0], trivial)


def _recorded(source: SourceRecipe, outcomes: Outcomes, left_out: Counter[str]) -> Iterator[Question]:
    assert source.outcomes is not None
    path = Path(source.outcomes) / "queries.parquet"
    present = pq.read_schema(path).names
    if "reference" not in present:
        raise DataError(f"{path}: column 'reference' is missing: without right answers nothing can be graded")
    columns = ["query_id", "reference", *(["meta"] if "meta" in present else [])]
    keys = {row["query_id"]: row for row in pq.read_table(path, columns=columns).to_pylist()}
    names = outcomes.model_names
    for i, query_id in enumerate(outcomes.query_ids):
        if outcomes.splits[i] != "train":
            continue
        reference = keys[query_id]["reference"]
        if not reference:
            left_out[NO_REFERENCE] += 1
            continue
        grader = grader_in(keys[query_id].get("meta")) or source.grader
        request = Request.from_text(outcomes.recording.prompts[i])
        task = Task(query_id, outcomes.datasets[i], request, grader, reference)
        asked = tuple(
            name for name, there in zip(names, outcomes.recording.present_QM[i], strict=True) if there
        )
        ability = outcomes.datasets[i].rpartition("/")[2]
        yield Question(task, source.name, ability, source.for_direct_answers, None, asked)


def _rates(outcomes: Outcomes, references: Sequence[str]) -> dict[str, float]:
    """Mean score of those reference models that were asked, by question."""
    columns = [m for m, name in enumerate(outcomes.model_names) if name in references]
    rates: dict[str, float] = {}
    for i, prompt in enumerate(outcomes.recording.prompts):
        scores = [float(outcomes.score_QM[i, m]) for m in columns if outcomes.recording.present_QM[i, m]]
        if scores:
            rates[question_key(Request.from_text(prompt))] = sum(scores) / len(scores)
    return rates


def _survives(task: Task) -> bool:
    """Whether a grader that needs more than the reference works on what is read back from a file."""
    if not task.meta:
        return True
    try:
        rebuilt = Task(task.id, task.dataset, task.request, task.grader, task.reference, plain_meta(task))
        return grade(rebuilt, task.reference) == grade(task, task.reference)
    except (DataError, TypeError, ValueError, KeyError, AttributeError, IndexError):
        return False


def plain_meta(task: Task) -> dict[str, Any]:
    """The task's further data as a file holds it. Raises TypeError or ValueError where it does not fit into JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(task.meta)))
    return plain
