"""From questions with pass rates to the two files: bands, repetitions, pools, prompts, token filter, split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from ...catalog.model import Model
from ...episodes.episode import Preference
from ...errors import DataError
from .bands import Taken, sort_into_bands
from .pools import draw_pool
from .prompts import Prompter
from .question import Question, share_of
from .recipe import Recipe
from .rows import Draft, Writer, routing_tools, row_of, schema
from .tokens import counter

FILES = {"train": "train.parquet", "validation": "validation.parquet"}

NO_POOL = "none of the models of the pools has a recorded answer to it"
TOO_LONG = "samples whose prompt is longer than max_prompt_tokens"
CUT = "samples whose conversation the router's window would cut"


@dataclass(frozen=True, slots=True)
class Written:
    """One sample that was written, for the card. models: of its pool."""

    split: str
    source: str
    band: str
    question: str
    pass_rate: float | None
    pool_name: str
    models: tuple[Model, ...]
    prompt_tokens: int


@dataclass(frozen=True)
class Built:
    """What was written, and what was left out and why. notices: what a user should know of the data."""

    samples: tuple[Written, ...]
    left_out: Mapping[str, int]
    notices: tuple[str, ...] = field(default=())


def build(
    questions: Sequence[Question],
    rates: Mapping[str, float],
    models: Mapping[str, Model],
    recipe: Recipe,
    folder: Path,
    on_sample: Callable[[int, int], None] = lambda done, total: None,
) -> Built:
    """Writes train.parquet and validation.parquet. The same arguments give the same bytes.

    rates: pass rate by the question's key. on_sample: told how many samples of how many are made.
    Raises DataError where nothing is left to write.
    """
    taken, left_out = sort_into_bands(questions, rates, recipe)
    reasons = Counter(left_out)
    drafts = _drafts(taken, models, recipe, reasons)
    tools, count, prompter = routing_tools(drafts), counter(recipe.tokenizer), Prompter(recipe.router)
    folder.mkdir(parents=True, exist_ok=True)
    writers = {split: Writer(folder / name, schema(tools)) for split, name in FILES.items()}
    written: list[Written] = []
    whole = False
    try:
        for done, draft in enumerate(drafts, start=1):
            task = draft.taken.question.task
            first = prompter.first_turn(task.request, draft.pool.models, draft.preference)
            tokens = count(first.messages, first.tools)
            if tokens > recipe.max_prompt_tokens:
                reasons[TOO_LONG] += 1
            elif not first.whole:
                reasons[CUT] += 1
            else:
                writer = writers[draft.split]
                writer.add(row_of(draft, writer.count, first, tokens, tools))
                written.append(_written(draft, tokens))
            on_sample(done, len(drafts))
        if not written:
            why = "; ".join(f"{reason}: {n}" for reason, n in reasons.items()) or "no source had a question"
            raise DataError(f"no sample is left to write ({why})")
        whole = True
    finally:
        for writer in writers.values():
            writer.close(whole=whole)
    return Built(tuple(written), dict(sorted(reasons.items())))


def split_of(question: Question, recipe: Recipe) -> str:
    """By the question's words, so that its repetitions, and the same question elsewhere, are on one side."""
    return "validation" if share_of(recipe.seed, "split", question.key) < recipe.validation_share else "train"


def _drafts(
    taken: Sequence[Taken], models: Mapping[str, Model], recipe: Recipe, reasons: Counter[str]
) -> list[Draft]:
    """Every repetition with its own pool and preference, in an order that mixes bands and sources."""
    drafts: list[tuple[float, Draft]] = []
    for one in taken:
        question = one.question
        for repetition in range(one.band.repeats):
            rng = Random(f"{recipe.seed}/{question.key}/{repetition}")
            pool = draw_pool(question, models, recipe.pools, rng)
            if pool is None:
                reasons[NO_POOL] += 1
                break
            preference = Preference(
                cost_weight=rng.choice(recipe.episodes.cost_weights), max_turns=recipe.episodes.max_turns
            )
            draft = Draft(one, repetition, split_of(question, recipe), pool, preference)
            drafts.append((share_of(recipe.seed, "order", question.key, repetition), draft))
    drafts.sort(key=lambda placed: placed[0])
    return [draft for _, draft in drafts]


def _written(draft: Draft, tokens: int) -> Written:
    one = draft.taken
    return Written(
        draft.split,
        one.question.source,
        one.band.name,
        one.question.key,
        one.pass_rate,
        draft.pool.name,
        draft.pool.models,
        tokens,
    )
