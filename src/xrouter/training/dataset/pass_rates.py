"""How often reference models get a question right: read where it is known, measured where it is not."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import ConfigurationError, DataError
from ...providers.pool import Pool
from ...tasks.collection import Limits, collect
from ...tasks.graders import grade
from ...tasks.journal import Journal, Row
from ...tasks.task import Task
from .gather import Gathered
from .question import Question
from .recipe import LiveLimits, Recipe, Reference


def known_rates(gathered: Gathered, recipe: Recipe) -> tuple[dict[str, float], list[Question]]:
    """(pass rate by key, the questions that have none yet). Trivial questions need none.

    A file's own column comes first, then what is recorded.
    """
    rates: dict[str, float] = {}
    missing: list[Question] = []
    for question in gathered.questions:
        key = question.key
        rate = gathered.recorded_rates.get(key) if question.pass_rate is None else question.pass_rate
        if rate is not None:
            rates[key] = rate
        elif not question.trivial:
            missing.append(question)
    return (rates, missing) if recipe.bands else (rates, [])


def journal_path(folder: Path, reference: Reference) -> Path:
    """Answers to the same questions under other sampling settings are in another file."""
    settings = json.dumps([reference.temperature, reference.max_output_tokens])
    return folder / f"pass_rates-{hashlib.sha256(settings.encode()).hexdigest()[:8]}.jsonl"


def tries(questions: Sequence[Question], reference: Reference) -> list[Task]:
    """`samples` tasks for each question, which differ in their ids alone."""
    return [
        replace(
            question.task,
            id=f"{question.task.id}#{k}",
            request=question.task.request.with_params(temperature=reference.temperature),
        )
        for question in questions
        for k in range(reference.samples)
    ]


async def measure(
    questions: Sequence[Question],
    recipe: Recipe,
    pool: Pool,
    journal: Journal,
    limits: LiveLimits,
    on_row: Callable[[Row], None] = lambda row: None,
) -> dict[str, float]:
    """Asks what the journal lacks and returns the pass rate by key of every question with an answer.

    pool: the reference models. Raises ConfigurationError where the dollar limit ends it early: what was paid for is
    in the journal, and a run that resumes goes on from there.
    """
    tasks = tries(questions, recipe.reference)
    bounds = Limits(
        limits.max_cost_usd, limits.concurrency, recipe.reference.max_output_tokens, limits.timeout_s
    )
    ended = await collect(tasks, pool, journal, bounds, on_row)
    if ended.stopped == "budget":
        raise ConfigurationError(
            f"another call of the reference model might exceed --max-cost-usd {limits.max_cost_usd:f} "
            f"(${journal.spent_usd:f} spent): raise it and pass --resume to go on",
            param="max_cost_usd",
        )
    if ended.refused:
        raise ConfigurationError(
            f"keys were refused for {', '.join(ended.refused)}: mend the key and pass --resume to go on",
            param="reference.models",
        )
    return rates_of(questions, recipe.reference, journal.answered)


def rates_of(
    questions: Sequence[Question], reference: Reference, answered: Mapping[tuple[str, str], Row]
) -> dict[str, float]:
    """Mean score over the answers there are, in whatever order they came."""
    scores: dict[str, list[float]] = defaultdict(list)
    for question in questions:
        for k in range(reference.samples):
            for model in reference.models:
                row = answered.get((f"{question.task.id}#{k}", model))
                if row is not None:
                    scores[question.key].append(grade(question.task, row.text, row.tool_calls))
    return {key: sum(found) / len(found) for key, found in scores.items()}


def calls_left(questions: Sequence[Question], reference: Reference, journal: Journal) -> int:
    """Calls that measuring takes beyond those in the journal."""
    done = journal.answered
    return sum(
        (task.id, model) not in done for task in tries(questions, reference) for model in reference.models
    )


def refuse_unmeasurable(
    questions: Sequence[Question], recipe: Recipe, gathered: Gathered, *, live: bool
) -> None:
    """Raises ConfigurationError or DataError where nobody may measure these questions, saying how to mend it.

    Recorded questions that the reference models were not asked may go without: they are left out later.
    """
    models = recipe.reference.models
    if models and gathered.recorded and not live and not set(models) & set(gathered.recorded):
        raise DataError(
            f"--reference-model {', '.join(models)}: no outcomes of it are recorded; there are "
            f"{', '.join(sorted(gathered.recorded))}",
            param="reference.models",
        )
    hopeless = [question for question in questions if not models or question.recorded is None]
    if not hopeless or (models and live):
        return
    first = hopeless[0]
    named = f"{len(hopeless)} questions have no pass rate (the first, of {first.source}: {first.task.id})"
    if not models:
        raise ConfigurationError(
            f"{named}: name a model with --reference-model, a pass_rate_column of a parquet file, or set bands = [] "
            "in the recipe to take every question",
            param="reference.models",
        )
    raise ConfigurationError(
        f"{named}: pass --live and --max-cost-usd to have {', '.join(models)} measured, or give recorded outcomes of "
        "it with --outcomes",
        param="live",
    )
