"""Which questions are taken, and how often: bands of pass rates with room for so many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .question import Question, share_of
from .recipe import Band, Recipe

EVERYTHING = Band("all", 0.0, 1.0)
"""The band of all questions where a recipe has none."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A question in its band. pass_rate: 0..1; None = not measured."""

    question: Question
    band: Band
    pass_rate: float | None


def sort_into_bands(
    questions: Sequence[Question], rates: Mapping[str, float], recipe: Recipe
) -> tuple[list[Taken], dict[str, int]]:
    """(the questions taken, in an order drawn by the seed; why others were left out and how many).

    Where bands overlap, a question goes to the first one that has room. What is taken does not depend on the order in
    which questions come.
    """
    left_out: Counter[str] = Counter()
    room = {band.name: band.cap for band in (*recipe.bands, recipe.trivial, EVERYTHING)}
    taken: list[Taken] = []
    for question in sorted(
        questions, key=lambda question: (share_of(recipe.seed, question.key), question.key)
    ):
        rate = rates.get(question.key)
        bands = _bands_of(question, rate, recipe)
        free = next((band for band in bands if room[band.name] != 0), None)
        if free is None:
            why = "its pass rate is not known" if rate is None else "its pass rate is in no band"
            left_out[f"the band {bands[0].name!r} is full" if bands else why] += 1
            continue
        left = room[free.name]
        room[free.name] = None if left is None else left - 1
        taken.append(Taken(question, free, rate))
    return taken, dict(sorted(left_out.items()))


def _bands_of(question: Question, rate: float | None, recipe: Recipe) -> tuple[Band, ...]:
    if question.trivial:
        return (recipe.trivial,)
    if not recipe.bands:
        return (EVERYTHING,)
    return tuple(band for band in recipe.bands if rate is not None and band.holds(rate))
