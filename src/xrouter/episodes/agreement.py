"""Which responses say the same, and which of them is the best guess when nobody may choose any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..catalog.model import Model
from .episode import Response
from .similarity import similar_classes


def agreement_classes(answers: Sequence[str | None]) -> list[int]:
    """A class for each answer, numbered from 0 in order of appearance; -1 where there is none.

    Answers are compared as they are: pass normal forms, which `Response.answer` holds.
    """
    numbers: dict[str, int] = {}
    return [-1 if answer is None else numbers.setdefault(answer, len(numbers)) for answer in answers]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Which responses say the same. by_similarity: judged by how alike free texts are, for want of readable answers."""

    classes: list[int]
    by_similarity: bool = False


def agreement(responses: Sequence[Response]) -> Agreement:
    """A class for each response, -1 where it agrees with none.

    By equal answers where any response has one; else, of two sound free texts or more, by likeness, where a text like
    no other counts for nothing: essays may differ and be right.
    """
    if any(response.answer is not None for response in responses):
        return Agreement(agreement_classes([response.answer for response in responses]))
    texts = [response.text if response.ok and not response.flaws else None for response in responses]
    if len(texts) - texts.count(None) < 2:
        return Agreement([-1] * len(responses))
    classes = similar_classes(texts)
    return Agreement(classes, by_similarity=max(classes) >= 0)


def best_response(responses: Sequence[Response], pool: Iterable[Model]) -> Response | None:
    """The response to hand over at a limit: a sound one before a flawed one, one that answers before one that does not,
    then one of the largest group that agrees; None if every call failed.

    Ties go to a response that says anything at all, then to the more capable model (stated capability, then
    output and input price), then to the earlier response. A response without a readable answer agrees with none.
    """
    models = {model.name: model for model in pool}
    candidates = [response for response in responses if response.ok]
    numbers = agreement(candidates).classes
    sizes = Counter(numbers)

    def rank(candidate: tuple[Response, int]) -> tuple[bool, bool, int, bool, float, Decimal, Decimal]:
        response, number = candidate
        model = models[response.model]
        rates = model.price.rates
        says_something = bool(response.text or (response.completion and response.completion.tool_calls))
        return (
            not response.flaws,
            not response.useless,
            0 if number < 0 else sizes[number],
            says_something,
            model.capability or 0.0,
            rates.output,
            rates.input,
        )

    best = max(zip(candidates, numbers, strict=True), key=rank, default=None)
    return None if best is None else best[0]
